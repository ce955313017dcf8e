// Pool and ThreadPool: Python's multiprocessing.pool, two engines behind one face.
//
// Differences from Python: every task ends in a value or an error, whatever becomes of its worker; imap takes its input in a
// bounded window, so that endless generators will do; an item's error does not abandon the rest of its chunk; terminate()
// ends outstanding results in CancelledError; the destructor terminates and joins.
//
// *Thread and process safety*: any thread of the process that made it; a fork child's copy says so when used.
// *If a process is killed*: see engine.hpp.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include "mp/pickle/range.hpp"
#include "mp/pool/async_result.hpp"
#include "mp/pool/dispatch.hpp"

namespace mp {

template <class Engine>
class BasicPool {
 public:
  BasicPool(BasicPool&& other) noexcept : engine_(std::move(other.engine_)), running_(other.running_.exchange(false)) {}
  // terminate() and join()
  ~BasicPool() {
    if (!engine_) return;
    try {
      terminate();
      join();
    } catch (const Error&) {  // the copy in a fork child: nothing to end there
    }
  }

  // Runs f(args...) in a worker and waits for its value; throws its error. Like all that follow: ValueError after close() or
  // terminate(), PicklingError, SharedMemoryFull, BrokenExecutor.
  template <class F, class... Args>
    requires(!std::is_same_v<std::decay_t<F>, TaskOptions>)
  auto apply(F&& f, Args&&... args) {
    return pool::start_task(engine(), TaskOptions{}, std::forward<F>(f), std::forward<Args>(args)...).result();
  }
  template <class F, class... Args>
  auto apply(const TaskOptions& options, F&& f, Args&&... args) {
    return pool::start_task(engine(), options, std::forward<F>(f), std::forward<Args>(args)...).result();
  }

  // The same without waiting: AsyncResult.
  template <class F, class... Args>
    requires(!std::is_same_v<std::decay_t<F>, TaskOptions>)
  auto apply_async(F&& f, Args&&... args) {
    return apply_async(TaskOptions{}, std::forward<F>(f), std::forward<Args>(args)...);
  }
  template <class F, class... Args>
  auto apply_async(const TaskOptions& options, F&& f, Args&&... args) {
    auto future = pool::start_task(engine(), options, std::forward<F>(f), std::forward<Args>(args)...);
    return AsyncResult<typename decltype(future)::value_type>(future.shared_state());
  }

  // f over all items: Results, in input order. Waits for all of them, then throws the error of the first that failed.
  // chunksize: how many items travel together, 0 = chosen.
  template <class F, class Range>
    requires pickle::InputRange<Range>
  auto map(F&& f, Range&& items, std::size_t chunksize = 0) {
    return map(MapOptions{.chunksize = chunksize}, std::forward<F>(f), std::forward<Range>(items));
  }
  template <class F, class Range>
  auto map(const MapOptions& options, F&& f, Range&& items) {
    return pool::collect(pool::start_map<false>(engine(), options, std::forward<F>(f), std::forward<Range>(items)));
  }
  template <class F, class Range>
    requires pickle::InputRange<Range>
  auto map_async(F&& f, Range&& items, std::size_t chunksize = 0) {
    return map_async(MapOptions{.chunksize = chunksize}, std::forward<F>(f), std::forward<Range>(items));
  }
  template <class F, class Range>
  auto map_async(const MapOptions& options, F&& f, Range&& items) {
    return async(pool::start_map<false>(engine(), options, std::forward<F>(f), std::forward<Range>(items)));
  }

  // The items are tuples (or pairs, or arrays) of arguments: f(a, b) for each (a, b).
  template <class F, class Range>
    requires pickle::InputRange<Range>
  auto starmap(F&& f, Range&& items, std::size_t chunksize = 0) {
    return starmap(MapOptions{.chunksize = chunksize}, std::forward<F>(f), std::forward<Range>(items));
  }
  template <class F, class Range>
  auto starmap(const MapOptions& options, F&& f, Range&& items) {
    return pool::collect(pool::start_map<true>(engine(), options, std::forward<F>(f), std::forward<Range>(items)));
  }
  template <class F, class Range>
    requires pickle::InputRange<Range>
  auto starmap_async(F&& f, Range&& items, std::size_t chunksize = 0) {
    return starmap_async(MapOptions{.chunksize = chunksize}, std::forward<F>(f), std::forward<Range>(items));
  }
  template <class F, class Range>
  auto starmap_async(const MapOptions& options, F&& f, Range&& items) {
    return async(pool::start_map<true>(engine(), options, std::forward<F>(f), std::forward<Range>(items)));
  }

  // f over a range that may be endless, one result after another (LazyResults; next(timeout) where Python has it too): in
  // input order, or in the order of completion. The input is taken chunk by chunk, four chunks for each worker ahead of the
  // results, or options.buffersize items. A range given as an lvalue must live as long as the iteration.
  template <class F, class Range>
    requires pickle::InputRange<Range>
  auto imap(F&& f, Range&& items, std::size_t chunksize = 1) {
    return imap(MapOptions{.chunksize = chunksize}, std::forward<F>(f), std::forward<Range>(items));
  }
  template <class F, class Range>
  auto imap(const MapOptions& options, F&& f, Range&& items) {
    return lazily(options, std::forward<F>(f), pool::Pull<Range>(std::forward<Range>(items)), false);
  }
  template <class F, class Range>
    requires pickle::InputRange<Range>
  auto imap_unordered(F&& f, Range&& items, std::size_t chunksize = 1) {
    return imap_unordered(MapOptions{.chunksize = chunksize}, std::forward<F>(f), std::forward<Range>(items));
  }
  template <class F, class Range>
  auto imap_unordered(const MapOptions& options, F&& f, Range&& items) {
    return lazily(options, std::forward<F>(f), pool::Pull<Range>(std::forward<Range>(items)), true);
  }

  // No more tasks; workers leave when all is done.
  void close() {
    running_.store(false, std::memory_order_release);
    if (engine_) engine_->close(false);
  }
  // At once: what has not begun is cancelled, workers are ended (threads come to the end of their task).
  void terminate() {
    running_.store(false, std::memory_order_release);
    if (engine_) engine_->terminate();
  }
  // Until the workers are gone. Throws ValueError unless close() or terminate() came before.
  void join() {
    if (running_.load(std::memory_order_acquire))
      throw ValueError("Pool is still running: close() or terminate() comes before join()");
    if (engine_) engine_->join();
  }

  unsigned processes() const noexcept { return engine_ ? engine_->workers() : 0; }

 protected:
  explicit BasicPool(std::shared_ptr<Engine> engine) noexcept : engine_(std::move(engine)) {}

 private:
  Engine& engine() const {
    if (!running_.load(std::memory_order_acquire)) throw ValueError("Pool not running");
    return *engine_;
  }
  template <class R>
  static AsyncResult<Results<R>> async(std::shared_ptr<pool::MapSource<R>> source) {
    return AsyncResult<Results<R>>(pool::Held<pool::MapState<R>>::make(std::move(source)));
  }
  template <class F, class Input>
  auto lazily(const MapOptions& options, F&& f, Input&& input, bool unordered) {
    static_cast<void>(engine());
    return pool::start_feed<false>(engine_, options, std::forward<F>(f), std::move(input), unordered);
  }

  std::shared_ptr<Engine> engine_;
  std::atomic<bool> running_{true};
};

struct PoolOptions {
  unsigned processes = 0;              // 0 = process_cpu_count(); at most 1024
  pool::Initializer initializer = {};  // any callable to send: runs once in each worker; its failure breaks the pool
  std::uint64_t maxtasksperchild = 0;  // then the worker is replaced; 0 = never
  Context context = {};                // how workers start
};

class Pool : public BasicPool<pool::ProcessEngine> {
 public:
  // Throws ValueError for too many workers, OSError and Error where processes cannot be made.
  explicit Pool(unsigned processes = 0, pool::Initializer initializer = {}, std::uint64_t maxtasksperchild = 0,
                Context context = {})
      : Pool(PoolOptions{processes, std::move(initializer), maxtasksperchild, context}) {}
  explicit Pool(PoolOptions options);
};

class ThreadPool : public BasicPool<pool::ThreadEngine> {
 public:
  explicit ThreadPool(unsigned processes = 0, std::function<void()> initializer = {});
};

}  // namespace mp
