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

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "mp/memory/ref.hpp"
#include "mp/pickle/callable.hpp"
#include "mp/pool/call.hpp"
#include "mp/pool/future.hpp"
#include "mp/pool/job.hpp"
#include "mp/pool/task_board.hpp"
#include "mp/process/context.hpp"
#include "mp/process/server.hpp"

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
    F f = pickle::load_callable<F>(in);
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

class ProcessEngine;
class JobControl;

// One posted task, as its state sees it.
struct Ticket {
  std::shared_ptr<ProcessEngine> engine;
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;
};

// The part of a task's state that follows its slot on the board; the typed part is TaskState (task.hpp).
class SlotTask {
 public:
  explicit SlotTask(Ticket ticket) noexcept : ticket_(std::move(ticket)) {}
  virtual ~SlotTask();
  SlotTask(const SlotTask&) = delete;
  SlotTask& operator=(const SlotTask&) = delete;
  // Called by the supervisor: the task was reported done.
  virtual void reported() noexcept = 0;

 protected:
  Slot& slot() const noexcept;
  Phase look() const noexcept;                          // where the slot stands; done once it serves another task
  bool sleep(const os::Deadline& deadline) const;       // until done
  bool ask_for_report(std::shared_ptr<SlotTask> self);  // false: it is done already
  Ticket ticket_;
  bool reporting_ = false;  // the supervisor will report, and only then the slot may be used again
  bool settled_ = false;    // value or error are here, the slot is no longer needed
};

class ProcessEngine : public std::enable_shared_from_this<ProcessEngine> {
 public:
  // Starts the workers. Throws ValueError for no workers at all, OSError and Error where processes cannot be made.
  static std::shared_ptr<ProcessEngine> start(EngineOptions options);
  ~ProcessEngine();

  unsigned workers() const noexcept { return static_cast<unsigned>(workers_.size()); }
  std::vector<pid_t> worker_pids();

  // A task whose run() is `run` with what `write` writes as arguments. `make(ticket)` makes its state.
  // Throws what write throws, SharedMemoryFull, BrokenProcessPool, Error once shut down.
  template <class Make, class Write>
  auto post(pickle::CodeRef run, const TaskOptions& options, bool chunk, Make&& make, Write&& write);

  // No more tasks; workers leave when all is done. `cancel`: what has not begun is cancelled.
  void close(bool cancel);
  // Cancels what has not begun and kills the workers; what they ran ends in CancelledError.
  void terminate();
  // Until all tasks are done and all workers gone. Only after close() or terminate().
  void join();

  // ---- for SlotTask and jobs ----
  TaskBoard& board() noexcept { return *board_; }
  void watch(const Ticket& ticket, std::shared_ptr<SlotTask> task);
  void unwatch(const Ticket& ticket) noexcept;
  void abandon(const Ticket& ticket) noexcept;      // nobody will ask for it
  void give_back(std::uint32_t slot) noexcept;      // parcels freed, slot free
  std::exception_ptr error_of(std::uint32_t slot);  // of a task that is done without a value
  bool kill(const Ticket& ticket);                  // ends a running task by its worker's death: CancelledError
  void nudge() noexcept { board_->signal(); }       // the supervisor shall look
  void add_job(memory::Offset job, std::weak_ptr<JobControl> control);
  void remove_job(memory::Offset job) noexcept;
  void check_owner() const;  // throws Error in any process but the owner

 private:
  enum class Mode { open, closing, terminating, broken };
  enum class Reason { none, timeout, cancel };
  struct Worker {
    memory::Ref record;  // null = none
    memory::Ref start;   // its WorkerStart
    bool ended = true;
    Reason reason = Reason::none;  // why we killed it
    std::int64_t term_at = 0;      // when it was asked to end (terminate), ns
  };

  explicit ProcessEngine(EngineOptions options);
  std::uint32_t take_slot();
  void line_up(std::uint32_t slot, const TaskOptions& options);
  void launch(std::uint32_t index);

  // supervisor.cpp
  void start_server();
  void start_supervisor();
  void supervise() noexcept;
  void report() noexcept;
  bool check_workers() noexcept;  // true while any lives
  void bury(std::uint32_t index) noexcept;
  void report_one(std::uint32_t slot) noexcept;
  void settle_victim(std::uint32_t index, std::uint32_t slot) noexcept;
  void lose(std::uint32_t slot, std::exception_ptr error, Phase phase) noexcept;
  void check_limits() noexcept;
  void replace_workers() noexcept;
  void break_pool(const std::string& why) noexcept;
  void cancel_waiting() noexcept;
  void lose_waiting(Mode mode) noexcept;
  void kill_workers() noexcept;
  void wait_for_news(std::uint32_t seen) noexcept;
  std::exception_ptr why_lost(std::uint32_t index, std::uint32_t slot);
  bool stop_and_kill(std::uint32_t index, Reason reason, std::uint32_t slot, std::uint32_t generation,
                     std::uint64_t since) noexcept;

  const memory::Tag owner_;
  EngineOptions options_;
  memory::Ref board_ref_;
  TaskBoard* board_;
  memory::Offset initializer_block_ = 0;
  Parcel initializer_;
  std::unique_ptr<process::Server> server_;

  std::mutex mutex_;  // guards what follows; never held while user code runs or a worker is launched
  Mode mode_ = Mode::open;
  std::exception_ptr broken_;
  std::uint32_t slots_ = 0;
  std::uint64_t posted_ = 0;  // tasks, ever: numbers them
  std::vector<std::uint32_t> free_;
  std::unordered_map<std::uint32_t, std::shared_ptr<SlotTask>> watched_;
  std::unordered_map<std::uint32_t, std::exception_ptr> lost_;
  std::unordered_map<std::uint32_t, std::string> names_;
  std::unordered_map<memory::Offset, std::weak_ptr<JobControl>> jobs_;
  std::size_t timed_ = 0;  // tasks and jobs with a limit, as long as their slots are in use

  // The supervisor's own, but for worker_pids() and kill() under workers_mutex_.
  std::mutex workers_mutex_;
  std::vector<Worker> workers_;
  unsigned failed_starts_ = 0;      // in a row
  std::int64_t failing_since_ = 0;  // the first of them, monotonic ns
  std::uint64_t launched_ = 0;      // workers, ever: numbers their names

  std::mutex join_mutex_;
  std::thread supervisor_;
};

}  // namespace pool
}  // namespace mp

// ---- templates ------------------------------------------------------------------------------------------------------

namespace mp::pool {

template <class Make, class Write>
auto ProcessEngine::post(pickle::CodeRef run, const TaskOptions& options, bool chunk, Make&& make, Write&& write) {
  std::uint32_t index = take_slot();
  Slot& s = board_->slot(index);
  Ticket ticket{shared_from_this(), index, word::generation(s.state.load(std::memory_order_relaxed))};
  try {
    pickle::Writer out(std::span<std::byte>(s.place));
    write(out);
    s.arguments = seal(out, s.place);
    s.run = run;
    s.chunk = chunk;
    line_up(index, options);
  } catch (...) {
    give_back(index);
    throw;
  }
  try {
    return make(ticket);
  } catch (...) {
    abandon(ticket);
    throw;
  }
}

}  // namespace mp::pool
