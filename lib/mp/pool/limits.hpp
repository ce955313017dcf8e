// The limits of a task, as its caller words them, as they travel beside it, and what its worker does about them.
//
//   wall time, CPU time   the supervisor compares clocks every 5 ms; past the limit it orders the worker to describe itself and end
//                         (SIGXCPU, with the attempt that is meant); a worker that has not done so half a second later is killed
//   memory                RLIMIT_DATA while the task runs; an allocation that is refused is std::bad_alloc, which comes out as LimitExceeded
//   file size             RLIMIT_FSIZE while the task runs; the kernel's SIGXFSZ describes and ends the worker
//   output                the worker compares the result's size before it is handed over
//
// A task without limits meets none of this: they lie in a block of their own, which the slot's last line names.
#pragma once

#include <cstdint>
#include <exception>

#include "mp/os/clock.hpp"
#include "mp/pickle/crashed.hpp"

namespace mp {

// Limits of one task, or of one item of a map. Going past one ends that task, and nothing else: in TaskTimeout (wall time) or LimitExceeded,
// which name the limit, and tell where the task was as a crash is told; then retries count. What is not given is not limited.
// Processes only: threads of a pool cannot be held to limits.
struct TaskLimits {
  // From when a worker takes it, of one attempt; the shorter counts of this and `timeout` beside it. Looked at every 5 ms.
  Timeout wall_time = {};
  // User and system time of the worker, with all its threads, in one attempt. Looked at every 5 ms. A child of the task's is not counted.
  Timeout cpu_time = {};
  // Bytes of private writable memory (heap, private mappings, stacks of its threads) beyond what the worker has as the task begins;
  // exact to the size of the main stack, which is not limited. What is refused is std::bad_alloc where it is made by `new`, a null pointer
  // by malloc. A task that catches it and does without goes on. 0 = no limit.
  std::uint64_t memory = 0;
  // Bytes that a file it writes may have, whichever part it wrote; shared memory that it makes by name counts as a file. Where the
  // program has a SIGXFSZ handler of its own, or ignores it, write() fails with EFBIG instead. 0 = no limit.
  std::uint64_t file_size = 0;
  // Bytes of its pickled result. 0 = no limit.
  std::uint64_t output = 0;

  bool any() const noexcept {
    return !wall_time.forever() || !cpu_time.forever() || (memory | file_size | output) != 0;
  }
};

namespace pool {

struct WorkerEntry;

// Them in shared memory; 0 = no limit.
struct Limits {
  std::uint64_t wall_time = 0, cpu_time = 0;  // ns
  std::uint64_t memory = 0, file_size = 0, output = 0;

  bool any() const noexcept { return (wall_time | cpu_time | memory | file_size | output) != 0; }
  bool timed() const noexcept { return (wall_time | cpu_time) != 0; }
};

// `timeout` is the older word for a limit of wall time.
Limits limits_of(const Timeout& timeout, const TaskLimits& limits) noexcept;

// ---- in a worker, by the thread that runs tasks ----

// A task or an item with these limits begins, after lift() or another that began. Throws OSError where the kernel or a missing /proc does not
// let them be imposed: then the task does not run.
void impose(const Limits& limits, WorkerEntry& entry);
// It is over: nothing is limited any more.
void lift(WorkerEntry& entry) noexcept;
// Throws LimitExceeded if a result of so many bytes is beyond the limit.
void check_output(const Limits& limits, std::uint64_t bytes);
// In a handler: the exception in flight, as LimitExceeded if it is std::bad_alloc for memory refused under the limit imposed last.
std::exception_ptr told_as_limit(const Limits& limits);

}  // namespace pool
}  // namespace mp
