// What stands behind a Future: one task's way from pending to its single outcome. The base serves any executor; a
// process pool's tasks override where the news comes from (task_state.hpp). All of this is private memory of one process.
//
// *Thread safety*: every function from any thread. Callbacks run once each, in the order added, in the thread that
// completes the task (the supervisor's, a pool thread's), or at once in the caller's where the task is done already.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "mp/errors.hpp"
#include "mp/os/clock.hpp"

namespace mp {

enum class FutureStatus : std::uint8_t { pending, running, cancelled, finished };

namespace pool {

// `void` results are kept as this.
struct Nothing {};
template <class R>
using Stored = std::conditional_t<std::is_void_v<R>, Nothing, R>;

// Calls a user's callback; what it throws is reported on stderr and ignored.
void call_back(const std::function<void()>& f) noexcept;

class FutureState : public std::enable_shared_from_this<FutureState> {
 public:
  FutureState() = default;
  FutureState(const FutureState&) = delete;
  FutureState& operator=(const FutureState&) = delete;
  virtual ~FutureState() = default;

  virtual FutureStatus status() noexcept;
  bool done() noexcept { return status() >= FutureStatus::cancelled; }
  // Until done; false when the time is over first.
  virtual bool wait(const os::Deadline& deadline);
  // True if it is cancelled now (or was); false if it runs or is finished.
  virtual bool cancel();
  // The same for a running task as well, where it can be stopped (in a worker process).
  virtual bool kill() { return cancel(); }
  // Calls `f` when done. What it throws is reported on stderr and ignored.
  virtual void add_callback(std::function<void()> f);
  // The error it ended with, null for a value. Only when done. CancelledError for a cancelled one.
  std::exception_ptr error();

  // ---- for whoever completes it ----

  // pending -> running; false if it was cancelled. Throws InvalidStateError in any other state.
  bool set_running();
  void set_error(std::exception_ptr e);

 protected:
  // Brings the outcome into value and error; called with done() true, before either is read.
  virtual void settle() {}
  // Runs `write` and ends the task; throws InvalidStateError if it is done.
  template <class F>
  void complete(F&& write) {
    {
      std::lock_guard guard(mutex_);
      if (status_ >= FutureStatus::cancelled) throw InvalidStateError("the future is already done");
      write();
      status_ = FutureStatus::finished;
    }
    announce();
  }
  void announce();  // wakes waiters, runs callbacks
  void run_callbacks();

  std::mutex mutex_;
  std::condition_variable changed_;
  FutureStatus status_ = FutureStatus::pending;
  std::exception_ptr error_;
  std::vector<std::function<void()>> callbacks_;
};

template <class R>
class ValueState : public FutureState {
 public:
  void set_value(Stored<R> value) {
    complete([&] { value_.emplace(std::move(value)); });
  }
  // The value, waited for without limit; throws the task's error.
  Stored<R>& value() {
    wait(os::Deadline());
    if (auto e = error()) std::rethrow_exception(e);
    return *value_;
  }

 protected:
  std::optional<Stored<R>> value_;
};

}  // namespace pool
}  // namespace mp
