#include "mp/pool/worker.hpp"

#include <signal.h>

#include <algorithm>

#include "mp/errors.hpp"
#include "mp/memory/family.hpp"
#include "mp/memory/ref.hpp"
#include "mp/os/backtrace.hpp"
#include "mp/os/clock.hpp"
#include "mp/pool/failure.hpp"
#include "mp/pool/limits.hpp"

namespace mp::pool {
namespace {

using Run = void (*)(pickle::Reader&, pickle::Writer&);

WorkerEntry* entry_of_this = nullptr;  // set once, by the one thread of a worker

Outcome failed(Slot& slot, pickle::Writer& out, const std::exception_ptr& error) {
  if (slot.attempts_left > 0) {
    --slot.attempts_left;
    return Outcome::lost;
  }
  out.clear();
  dump_failure(out, error);
  return Outcome::exception;
}

[[gnu::hot]] Outcome attempt(Slot& slot, pickle::Writer& out) {
  try {
    pickle::Reader in(slot.argument_payload());
    auto run = pickle::code_as<Run>(slot.run);
    os::call_watched([&] { run(in, out); });
    return Outcome::value;
  } catch (...) {
    return failed(slot, out, std::current_exception());
  }
}

// The same within limits.
Outcome attempt_within(Slot& slot, pickle::Writer& out, WorkerEntry& entry) {
  Limits limits;
  try {
    const auto* told = memory::array_at<Limits>(slot.limits, 1);
    if (told == nullptr) throw UnpicklingError("a task's limits are not where they should be in shared memory");
    limits = *told;
    impose(limits, entry);
    pickle::Reader in(slot.argument_payload());
    auto run = pickle::code_as<Run>(slot.run);
    os::call_watched([&] { run(in, out); });
    lift(entry);
    check_output(limits, out.size());
    return Outcome::value;
  } catch (...) {
    lift(entry);
    return failed(slot, out, told_as_limit(limits));
  }
}

}  // namespace

[[gnu::hot]] void perform(Slot& slot, WorkerEntry& entry) {
  for (;;) {
    // While another attempt may need the arguments, the result must not lie where they are.
    bool in_place = slot.attempts_left == 0 && !slot.is(rare::kChunk);
    pickle::Writer own;
    pickle::Writer there{std::span<std::byte>(slot.place)};
    pickle::Writer& out = in_place ? there : own;
    // A chunk's items have each their own.
    Outcome outcome =
        slot.is(rare::kLimited) && !slot.is(rare::kChunk) ? attempt_within(slot, out, entry) : attempt(slot, out);
    if (outcome == Outcome::lost) continue;
    try {
      slot.set_result(out);
      slot.outcome = outcome;
    } catch (const SharedMemoryFull& full) {
      slot.set_no_room(full.asked());
    }
    return;
  }
}

namespace {

// The board that a worker is told to work at.
TaskBoard& board_of(const WorkerStart& start) {
  auto* board = memory::try_object<TaskBoard>(start.board, memory::Kind::board);
  const std::uint32_t workers = board != nullptr ? board->worker_count() : 0;
  if (start.index >= workers || workers > TaskBoard::kMostWorkers ||
      memory::room_at(start.board) < sizeof(TaskBoard) + workers * sizeof(WorkerEntry))
    throw UnpicklingError("a worker was told to work at no pool's board");
  return *board;
}

// False if it threw: the exception then lies in the entry.
bool initialize(const WorkerStart& start, WorkerEntry& entry) {
  if (start.initializer.module == 0) return true;
  pickle::Writer out;
  try {
    pickle::Reader in(payload({start.initializer_size, 0, start.initializer_block}, {}));
    auto run = pickle::code_as<Run>(start.initializer);
    os::call_watched([&] { run(in, out); });
    return true;
  } catch (...) {
    out.clear();
    dump_failure(out);
    seal(out, nullptr, entry.failure);
    return false;
  }
}

}  // namespace

WorkerEntry* this_worker() noexcept { return entry_of_this; }
void become_worker(WorkerEntry& entry) noexcept { entry_of_this = &entry; }

int work(memory::Offset given) {
  const auto* told = memory::try_object<WorkerStart>(given, memory::Kind::engine);
  if (told == nullptr) throw UnpicklingError("a worker was not told what it is");
  const WorkerStart start = *told;
  TaskBoard& board = board_of(start);
  WorkerEntry& entry = board.worker(start.index);
  become_worker(entry);
  // Ctrl-C reaches every process of the terminal; what it means is for the pool's owner to say.
  ::signal(SIGINT, SIG_IGN);

  if (!initialize(start, entry)) {
    entry.phase.store(static_cast<std::uint32_t>(WorkerPhase::failed), std::memory_order_release);
    board.signal();
    return 1;
  }
  entry.phase.store(static_cast<std::uint32_t>(WorkerPhase::ready), std::memory_order_release);

  std::uint64_t done = 0;
  std::uint32_t index;
  while (board.claim(start.index, index) == TaskBoard::Claim::got) {
    perform(board.slot(index), entry);
    board.publish(index);
    entry.tasks.store(++done, std::memory_order_relaxed);
    if (done == start.most_tasks) break;
  }
  entry.intent.store(0, std::memory_order_release);
  entry.phase.store(static_cast<std::uint32_t>(WorkerPhase::leaving), std::memory_order_release);
  return 0;
}

}  // namespace mp::pool
