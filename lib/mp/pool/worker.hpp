// A pool's worker process: its loop, and what the running task may ask about where it is.
#pragma once

#include <cstdint>

#include "mp/memory/arena.hpp"
#include "mp/pickle/code.hpp"
#include "mp/pool/parcel.hpp"
#include "mp/pool/task_board.hpp"

namespace mp::pool {

// What a worker is given at its start: an object of kind engine, one for each launch.
struct WorkerStart {
  memory::Offset board;
  std::uint32_t index;
  std::uint64_t most_tasks;          // it leaves after so many; 0 = never
  pickle::CodeRef initializer;       // void run(Reader&, Writer&); module 0 = none
  memory::Offset initializer_block;  // its state; owned by the engine, which outlives the worker
  std::uint32_t initializer_size;
};

// Entry point of a worker process: runs tasks until the pool closes. Returns its exit code.
int work(memory::Offset start);

// Runs the task of a claimed slot and leaves its outcome there. What the slot says is believed only as far as it can be true: wrong
// bytes end in an exception as the task's outcome.
void perform(Slot& slot, WorkerEntry& entry);

// The entry of the worker that this process is; null elsewhere.
WorkerEntry* this_worker() noexcept;
void become_worker(WorkerEntry& entry) noexcept;

}  // namespace mp::pool
