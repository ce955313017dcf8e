// What stands behind a Future: one task's way from pending to its single outcome. FutureState is what futures ask;
// LocalState, where threads of this process bring the outcome; SlotTask (slot_task.hpp), where a process does. All of
// this is private memory of one process.
//
// *Thread safety*: every function from any thread. Callbacks run once each, in the order added, in the thread that
// completes the task (the supervisor's, a pool thread's), or at once in the caller's where the task is done already.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "mp/errors.hpp"
#include "mp/os/clock.hpp"
#include "mp/pickle/value.hpp"
#include "mp/pool/counted.hpp"

namespace mp {

enum class FutureStatus : std::uint8_t { pending, running, cancelled, finished };

namespace pool {

// `void` results are kept as this.
struct Nothing {};
template <class R>
using Stored = std::conditional_t<std::is_void_v<R>, Nothing, R>;

// Calls a user's callback; what it throws is reported on stderr and ignored.
void call_back(const std::function<void()>& f) noexcept;

class FutureState : public Counted {
 public:
  virtual FutureStatus status() noexcept = 0;
  bool done() noexcept { return status() >= FutureStatus::cancelled; }
  // Until done; false when the time is over first.
  virtual bool wait(const os::Deadline& deadline) = 0;
  // True if it is cancelled now (or was); false if it runs or is finished.
  virtual bool cancel() = 0;
  // The same for a running task as well, where it can be stopped (in a worker process).
  virtual bool kill() { return cancel(); }
  // Calls `f` when done. What it throws is reported on stderr and ignored.
  virtual void add_callback(std::function<void()> f) = 0;
  // The error it ended with, null for a value. Only when done. CancelledError for a cancelled one.
  virtual std::exception_ptr error() = 0;
  // Where the value came from another process: its bytes, which lie there as long as this is held. Only when done; throws
  // the task's error.
  virtual std::span<const std::byte> message();
  bool comes_as_message() const noexcept { return comes_as_message_; }

  // For whoever completes it by hand; InvalidStateError where that is a worker's affair.
  // pending -> running; false if it was cancelled. Throws InvalidStateError in any other state.
  virtual bool set_running();
  virtual void set_error(std::exception_ptr e);

 protected:
  explicit FutureState(bool comes_as_message) noexcept : comes_as_message_(comes_as_message) {}
  [[noreturn]] static void not_by_hand();

 private:
  const bool comes_as_message_;
};

// Completed by a thread of this process.
class LocalState : public FutureState {
 public:
  LocalState() noexcept : FutureState(false) {}

  FutureStatus status() noexcept override;
  bool wait(const os::Deadline& deadline) override;
  bool cancel() override;
  void add_callback(std::function<void()> f) override;
  std::exception_ptr error() override;
  bool set_running() override;
  void set_error(std::exception_ptr e) override;

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

  std::mutex mutex_;
  std::condition_variable changed_;
  FutureStatus status_ = FutureStatus::pending;
  std::exception_ptr error_;
  std::vector<std::function<void()>> callbacks_;
};

template <class R>
class ValueState : public LocalState {
 public:
  void set_value(Stored<R> value) {
    complete([&] { value_.emplace(std::move(value)); });
  }
  // The value. Only when done; throws the task's error.
  Stored<R>& value() {
    if (auto e = error()) std::rethrow_exception(e);
    return *value_;
  }

 protected:
  std::optional<Stored<R>> value_;
};

// The value of a task that is done; moved out where it lies here and `Move` says so. Throws the task's error.
template <class R, bool Move>
R value_of(FutureState& state) {
  if (state.comes_as_message()) {
    std::span<const std::byte> bytes = state.message();
    if constexpr (std::is_void_v<R>) {
      return;
    } else if constexpr (pickle::Picklable<R>) {
      pickle::Reader in(bytes);
      return pickle::load<R>(in);
    }
  }
  auto& local = static_cast<ValueState<R>&>(state);
  if constexpr (std::is_void_v<R>) local.value();
  else if constexpr (Move) return std::move(local.value());
  else return local.value();
}

}  // namespace pool
}  // namespace mp
