// The engine of a thread pool: the same calls as ProcessEngine, on threads of this process. Nothing is pickled, anything
// movable goes. Differences that threads dictate: the timeouts and limits of TaskOptions and MapOptions are not enforced (a thread
// cannot be stopped), and terminate() lets running tasks come to their end.
//
// *Thread and process safety*: any thread. In a fork child the threads are missing: every use says so, and destroying the
// copy does nothing.
#pragma once

#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "mp/pool/call.hpp"
#include "mp/pool/counted.hpp"
#include "mp/pool/future.hpp"

namespace mp::pool {

// What the queue is told: either run() is called, once, or drop().
class ThreadTask {
 public:
  virtual ~ThreadTask() = default;
  virtual void run() noexcept = 0;
  virtual void drop(const std::exception_ptr& why) noexcept = 0;  // it will not run; null: it was cancelled
  virtual void stop() noexcept {}                                 // while it runs: shall not begin anything new
};

// In the queue: the task, and the object it is or lies in.
struct QueuedTask {
  template <class T>
  explicit QueuedTask(Held<T> object) noexcept : task(object.get()),
                                                 keep(std::move(object)) {}
  QueuedTask() noexcept = default;
  ThreadTask* task = nullptr;
  Held<Counted> keep;
};

struct ThreadEngineOptions {
  unsigned workers = 0;                    // 0 = min(32, process_cpu_count() + 4)
  std::string name_prefix = {};            // threads are called PREFIX_N, the prefix cut so that all fits 15 bytes
  std::function<void()> initializer = {};  // runs once in each thread before its first task
};

class ThreadEngine {
 public:
  static constexpr unsigned kMostWorkers = 1024;

  // Makes no thread yet: one comes with a task that no idle thread is there for. Throws ValueError for too many.
  static std::shared_ptr<ThreadEngine> start(ThreadEngineOptions options);
  ~ThreadEngine();  // close(false) and join()

  unsigned workers() const noexcept;
  unsigned threads() const;  // started so far

  // Puts a task in line. Throws Error after close(), BrokenThreadPool after an initializer failed, std::system_error when
  // not even one thread can be made.
  void post(QueuedTask task);

  // No more tasks; threads leave when all is done. `cancel`: what has not begun is cancelled.
  void close(bool cancel);
  void terminate() { close(true); }
  // Until all tasks are done and all threads gone. Called by a task of this very pool it returns at once.
  void join();

 private:
  struct Core;
  explicit ThreadEngine(std::shared_ptr<Core> core) noexcept : core_(std::move(core)) {}
  std::shared_ptr<Core> core_;  // shared with the threads, so that a task may drop the last handle to its own pool
};

template <class R, class F, class... Args>
class ThreadCall final : public ValueState<R>, public ThreadTask {
 public:
  // An argument that cannot be copied is gone with the first attempt.
  static constexpr bool kRepeatable = (std::is_copy_constructible_v<Args> && ...);

  template <class G, class... A>
  explicit ThreadCall(unsigned retries, G&& f, A&&... args)
      : call_(std::in_place, std::forward<G>(f), std::tuple<Args...>(std::forward<A>(args)...)),
        retries_(retries) {}

  void run() noexcept override {
    if (!begin()) return;
    std::optional<Stored<R>> value;
    std::exception_ptr error;
    for (;; --retries_) {
      try {
        attempt(value);
        break;
      } catch (...) {
        if (retries_ > 0) continue;
        error = std::current_exception();
        break;
      }
    }
    call_.reset();  // what the call holds is let go before anybody learns that it is done
    try {
      if (error) this->set_error(std::move(error));
      else this->set_value(std::move(*value));
    } catch (const InvalidStateError&) {  // the outcome was set by hand meanwhile
    } catch (...) {
      this->set_error(std::current_exception());  // the value's move constructor
    }
  }

  void drop(const std::exception_ptr& why) noexcept override {
    if (!why) this->cancel();
    else if (begin()) this->set_error(why);
    call_.reset();
  }

 private:
  struct Call {
    template <class G>
    Call(G&& g, std::tuple<Args...>&& a) : f(std::forward<G>(g)),
                                           args(std::move(a)) {}
    F f;
    std::tuple<Args...> args;
  };

  bool begin() noexcept {
    try {
      if (this->set_running()) return true;
    } catch (const InvalidStateError&) {  // run by hand
    }
    call_.reset();
    return false;
  }

  void attempt(std::optional<Stored<R>>& value) {
    auto call = [&](std::tuple<Args...>&& args) -> decltype(auto) {
      return std::apply([&](Args&... a) -> decltype(auto) { return std::invoke(call_->f, std::move(a)...); }, args);
    };
    auto keep = [&](std::tuple<Args...>&& args) {
      if constexpr (std::is_void_v<R>) {
        call(std::move(args));
        value.emplace();
      } else {
        value.emplace(call(std::move(args)));
      }
    };
    if constexpr (kRepeatable) {
      if (retries_ > 0) return keep(std::tuple<Args...>(call_->args));
    }
    keep(std::move(call_->args));
  }

  std::optional<Call> call_;
  unsigned retries_;
};

// Callable and arguments are kept by value; std::ref where the caller's own are meant. Of the options, the timeout is
// not enforced. Throws ValueError for retries with an argument that cannot be copied.
template <class F, class... Args>
auto submit(ThreadEngine& engine, const TaskOptions& options, F&& f, Args&&... args) {
  using R = ResultOf<std::decay_t<F>, std::decay_t<Args>...>;
  using Call = ThreadCall<R, std::decay_t<F>, std::decay_t<Args>...>;
  if (!Call::kRepeatable && options.retries > 0) throw ValueError("retries need arguments that can be copied");
  auto call = Held<Call>::make(options.retries, std::forward<F>(f), std::forward<Args>(args)...);
  engine.post(QueuedTask(call));
  return Future<R>(std::move(call));
}

}  // namespace mp::pool
