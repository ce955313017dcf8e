// ProcessPoolExecutor and ThreadPoolExecutor: Python's concurrent.futures. Two engines behind one face, so that code
// written for one runs on the other; `Executor` is the concept of both.
//
// Differences from Python: workers start with the executor (threads on demand); a worker that dies costs the task it ran
// and is replaced, the pool is not broken by it; limits of a task are given with it (TaskOptions, MapOptions).
//
// *Thread and process safety*: any thread of the process that made it; a fork child's copy says so when used.
// *If a process is killed*: see engine.hpp.
#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "mp/pickle/range.hpp"
#include "mp/pool/dispatch.hpp"

namespace mp {

template <class E>
concept Executor = requires(E& executor, int (*f)(int), std::vector<int> items) {
  { executor.submit(f, 1) } -> std::same_as<Future<int>>;
  { executor.map(f, items) } -> std::same_as<LazyResults<int>>;
  executor.shutdown(true, false);
};

template <class Engine>
class BasicExecutor {
 public:
  BasicExecutor(BasicExecutor&&) noexcept = default;
  BasicExecutor& operator=(BasicExecutor&& other) noexcept {
    std::swap(engine_, other.engine_);
    return *this;
  }
  // shutdown()
  ~BasicExecutor() {
    try {
      shutdown();
    } catch (const Error&) {  // the copy in a fork child: nothing to shut down there
    }
  }

  // Runs f(args...) in a worker. Callable and arguments go by value; to processes they are pickled. Throws Error after
  // shutdown, PicklingError, SharedMemoryFull, BrokenExecutor.
  template <class F, class... Args>
    requires(!std::is_same_v<std::decay_t<F>, TaskOptions>)
  auto submit(F&& f, Args&&... args) {
    return pool::start_task(engine(), TaskOptions{}, std::forward<F>(f), std::forward<Args>(args)...);
  }
  // The same within limits of its own. A thread pool cannot enforce them.
  template <class F, class... Args>
  auto submit(const TaskOptions& options, F&& f, Args&&... args) {
    return pool::start_task(engine(), options, std::forward<F>(f), std::forward<Args>(args)...);
  }

  // f over the items of a range, or over the first, second, ... items of several until the shortest ends: the results in
  // input order (LazyResults). The whole input is taken at once, unless options.buffersize says how far ahead; then the
  // ranges that are lvalues must live as long as the iteration.
  template <class F, class... Ranges>
    requires(sizeof...(Ranges) > 0 && (pickle::InputRange<Ranges> && ...))
  auto map(F&& f, Ranges&&... ranges) {
    return map(MapOptions{}, std::forward<F>(f), std::forward<Ranges>(ranges)...);
  }
  template <class F, class... Ranges>
    requires(sizeof...(Ranges) > 0 && (pickle::InputRange<Ranges> && ...))
  auto map(const MapOptions& options, F&& f, Ranges&&... ranges) {
    constexpr bool several = sizeof...(Ranges) > 1;
    using Input = typename std::conditional_t<several, std::type_identity<pool::PullTuples<Ranges...>>,
                                              pool::FirstPull<Ranges...>>::type;
    os::Deadline deadline(options.deadline);
    if (options.buffersize > 0) {
      if constexpr (std::is_copy_constructible_v<std::decay_t<F>>)
        return pool::start_feed<several>(shared_engine(), options, std::forward<F>(f),
                                         Input(std::forward<Ranges>(ranges)...), false);
      else throw ValueError("buffersize needs a callable that can be copied");
    }
    if constexpr (several) {
      return LazyResults(pool::start_map<true>(engine(), options, std::forward<F>(f),
                                               pool::pull_all(Input(std::forward<Ranges>(ranges)...))),
                         deadline);
    } else {
      return LazyResults(pool::start_map<false>(engine(), options, std::forward<F>(f), std::forward<Ranges>(ranges)...),
                         deadline);
    }
  }

  // No more tasks; those submitted are still done, unless `cancel_futures` and they have not begun. `wait`: until all is done
  // and all workers are gone. May be called again.
  void shutdown(bool wait = true, bool cancel_futures = false) {
    if (!engine_) return;
    engine_->close(cancel_futures);
    if (wait) engine_->join();
  }

  unsigned max_workers() const noexcept { return engine_ ? engine_->workers() : 0; }

 protected:
  explicit BasicExecutor(std::shared_ptr<Engine> engine) noexcept : engine_(std::move(engine)) {}
  const std::shared_ptr<Engine>& shared_engine() const {
    if (!engine_) throw Error("cannot schedule new futures on an executor that was moved from");
    return engine_;
  }
  Engine& engine() const { return *shared_engine(); }

  std::shared_ptr<Engine> engine_;
};

struct ExecutorOptions {
  unsigned max_workers = 0;               // 0 = process_cpu_count(); at most 1024
  Context mp_context = {};                // how workers start
  pool::Initializer initializer = {};     // any callable to send: runs once in each worker; its failure breaks the pool
  std::uint64_t max_tasks_per_child = 0;  // then the worker is replaced; 0 = never
};

class ProcessPoolExecutor : public BasicExecutor<pool::ProcessEngine> {
 public:
  // Throws ValueError for too many workers, OSError and Error where processes cannot be made.
  explicit ProcessPoolExecutor(unsigned max_workers = 0);
  explicit ProcessPoolExecutor(ExecutorOptions options);

  // Of the workers that live at the moment; they change when workers die or leave.
  std::vector<pid_t> worker_pids() const { return engine().worker_pids(); }

  // Ends at once: what has not begun is cancelled, workers are ended by signal, and what they ran is cancelled too.
  void terminate_workers();
  void kill_workers();
};

struct ThreadExecutorOptions {
  unsigned max_workers = 0;  // 0 = min(32, process_cpu_count() + 4); at most 1024
  std::string thread_name_prefix = {};
  std::function<void()> initializer = {};  // runs once in each thread; its failure breaks the pool: BrokenThreadPool
};

// Threads come on demand, idle ones are used first. Nothing is pickled; std::ref passes the caller's own.
class ThreadPoolExecutor : public BasicExecutor<pool::ThreadEngine> {
 public:
  explicit ThreadPoolExecutor(unsigned max_workers = 0);
  explicit ThreadPoolExecutor(ThreadExecutorOptions options);
};

}  // namespace mp
