// The engine of a process pool, as its owner sees it: the board, the workers, and the supervisor thread that replaces
// dead workers, enforces limits and runs callbacks. ProcessPoolExecutor and Pool are faces of it.
//
//     submit --> board --> workers (forked by the zygote)         supervisor: woken by the board's signal when
//       ^                     |                                     - a task with callbacks is done
//       +---- result() <------+                                     - a worker has come, failed or died (the zygote says)
//
// *Thread and process safety*: any thread of the process that made it. In a fork child the copy is void: every use says
// whose pool it is, and destroying it does nothing.
// *If a process is killed*: a worker: the task it ran ends in WorkerCrashed or is tried again, a new worker comes. The
// zygote: all workers go with it, and a new zygote and new workers come. The owner: the kernel ends them all.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

#include "mp/memory/family.hpp"
#include "mp/memory/ref.hpp"
#include "mp/os/biased_lock.hpp"
#include "mp/os/spin_lock.hpp"
#include "mp/pickle/callable.hpp"
#include "mp/pool/call.hpp"
#include "mp/pool/job.hpp"
#include "mp/pool/slot_task.hpp"
#include "mp/pool/task_board.hpp"
#include "mp/process/context.hpp"

namespace mp {
namespace pool {

// A callable without arguments, kept in its sendable form: runs once in each worker before its first task.
class Initializer {
 public:
  Initializer() = default;
  template <class F>
    requires(!std::is_same_v<std::decay_t<F>, Initializer> && std::is_invocable_v<std::decay_t<F>&>)
  Initializer(F&& f)
      : run(pickle::code_ref(reinterpret_cast<const void*>(&call<std::decay_t<F>>))),
        dump([f = std::decay_t<F>(std::forward<F>(f))](pickle::Writer& out) { pickle::dump_callable(out, f); }) {}

  pickle::CodeRef run{};
  std::function<void(pickle::Writer&)> dump;

 private:
  template <class F>
  static void call(pickle::Reader& in, pickle::Writer&) {
    F f = pickle::load_called<F>(in);
    f();
  }
};

struct EngineOptions {
  unsigned workers = 0;  // 0 = process_cpu_count()
  Context context = {};
  Initializer initializer = {};
  std::uint64_t most_tasks = 0;  // of one worker, then it is replaced; 0 = no limit
  std::string worker_name;       // "-N" is appended
};

class JobControl;
class Supervisor;

class ProcessEngine : public std::enable_shared_from_this<ProcessEngine> {
 public:
  // Starts the workers. Throws ValueError for too many workers, OSError and Error where processes cannot be made.
  // With the last holder the pool is terminated; the object itself lives on as long as there are futures of its tasks.
  static std::shared_ptr<ProcessEngine> start(EngineOptions options);

  unsigned workers() const noexcept { return board_->worker_count(); }
  std::vector<pid_t> worker_pids();

  // A task whose run() is `run` with what `write` writes as arguments. `chunk`: they begin with a ChunkHead.
  // Throws what write throws, SharedMemoryFull, BrokenProcessPool, Error once shut down.
  template <class Write>
  Held<SlotTask> post(pickle::CodeRef run, const TaskOptions& options, bool chunk, Write&& write);

  // No more tasks; workers leave when all is done. `cancel`: what has not begun is cancelled.
  void close(bool cancel);
  // Cancels what has not begun and kills the workers; what they ran ends in CancelledError.
  void terminate();
  // Until all tasks are done and all workers gone. Only after close() or terminate(). From a callback it returns at once.
  void join();

  // ---- for tasks and jobs ----
  TaskBoard& board() noexcept { return *board_; }
  std::exception_ptr error_of(SlotTask& task);  // of a task that is done without a value
  bool kill(SlotTask& task);                    // ends a running task by its worker's death: CancelledError
  void nudge() noexcept { board_->signal(); }   // the supervisor shall look
  void add_job(memory::Offset job, std::weak_ptr<JobControl> control);
  void remove_job(memory::Offset job) noexcept;
  bool is_owner() const noexcept { return memory::self() == owner_; }
  void check_owner() const {  // throws Error in any other process
    if (!is_owner()) [[unlikely]]
      refuse_strangers();
  }

 private:
  friend class SlotTask;
  friend class Supervisor;
  enum class Mode { open, closing, terminating, broken };

  explicit ProcessEngine(const EngineOptions& options);
  ~ProcessEngine();
  void retire() noexcept;          // the last holder is gone
  void wait_for_tasks() noexcept;  // deletes itself with the last future

  SlotTask& task(std::uint32_t slot) noexcept {
    return tasks_.data()[slot / TaskBoard::kSlotsInSegment][slot % TaskBoard::kSlotsInSegment];
  }
  // The task of a slot that a worker has named; null if there is none.
  SlotTask* try_task(std::uint32_t slot) noexcept {
    return slot < slots_.load(std::memory_order_acquire) ? &task(slot) : nullptr;
  }
  Held<SlotTask> take();
  SlotTask& grow();
  void give_back(SlotTask& task) noexcept;
  void line_up(SlotTask& task, const TaskOptions& options);
  void limit(SlotTask& task, const Limits& limits);
  Limits limits_of_slot(std::uint32_t slot) noexcept;
  void lose(SlotTask& task, std::exception_ptr error, Phase phase) noexcept;
  void lose_waiting(const std::exception_ptr& why, Phase phase) noexcept;
  void post_again(SlotTask& task, std::uint32_t dead_worker);
  [[noreturn]] static void refuse_strangers();
  void refuse_unless_open() const;

  const memory::Tag owner_;
  memory::Ref board_ref_;
  TaskBoard* board_;

  // Locks are never held while user code runs or a worker is launched.
  // Guards submission: free tasks, the end of the line. Nearly always one thread's, and so it costs no atomic step.
  alignas(64) os::BiasedLock line_mutex_;
  SlotTask* free_ = nullptr;                        // a stack, linked by SlotTask::next_free_
  std::uint64_t posted_ = 0;                        // tasks, ever: numbers them
  std::uint64_t held_ = 0;                          // tasks that are not free
  bool retired_ = false;                            // only futures are left; with the last one goes all
  std::atomic<Mode> mode_{Mode::open};              // written under it
  std::vector<std::unique_ptr<SlotTask[]>> tasks_;  // by slot; room for all is reserved, so that it never moves

  std::atomic<std::uint32_t> slots_{0};    // how many those are
  std::exception_ptr broken_;              // written once, before the mode says so
  alignas(64) os::SpinLock extras_mutex_;  // guards every task's extras
  std::atomic<std::uint32_t> timed_{0};    // tasks with a limit of time, as long as their slots are in use

  std::unique_ptr<Supervisor> supervisor_;
};

}  // namespace pool
}  // namespace mp

// ---- templates ------------------------------------------------------------------------------------------------------

namespace mp::pool {

template <class Write>
Held<SlotTask> ProcessEngine::post(pickle::CodeRef run, const TaskOptions& options, bool chunk, Write&& write) {
  Held<SlotTask> task = take();
  Slot& s = task->slot();
  pickle::Writer out(std::span<std::byte>(s.place));
  write(out);
  s.set_arguments(out);
  s.run = run;
  if (chunk) s.rare |= rare::kChunk;
  line_up(*task, options);
  return task;
}

}  // namespace mp::pool
