// AsyncResult: the outcome of a Pool's _async call. As Python's, but a handle: copies name the same call.
//
// *Thread safety*: any thread of the process that made it.
#pragma once

#include <exception>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "mp/pool/future.hpp"
#include "mp/pool/results.hpp"

namespace mp {

template <class R>
class AsyncResult {
 public:
  using value_type = R;
  explicit AsyncResult(pool::Held<pool::FutureState> state) noexcept : state_(std::move(state)) {}

  // The value; blocks at most `timeout`, then throws TimeoutError (the call goes on). Throws the call's own error. Of an
  // rvalue, the value is moved out.
  R get(Timeout timeout = {}) const& {
    finish(timeout);
    return pool::value_of<R, false>(*state_);
  }
  R get(Timeout timeout = {}) && {
    finish(timeout);
    return pool::value_of<R, true>(*state_);
  }

  // Until it is ready and the callbacks given through this handle have run; false when the time is over first.
  bool wait(Timeout timeout = {}) const {
    os::Deadline deadline(timeout);
    if (!state_->wait(deadline)) return false;
    for (auto& call : calls_)
      if (!call->wait(deadline)) return false;
    return true;
  }
  bool ready() const { return wait(std::chrono::seconds(0)); }
  // Whether it ended without an error. Throws ValueError if it is not ready.
  bool successful() const {
    if (!ready()) throw ValueError("the result is not ready yet");
    return !state_->error();
  }

  // Calls f(value), in the thread that completes the call, or at once if it is complete; what f throws is printed and ignored.
  // Python's arguments of that name:
  //
  //     pool.apply_async(f, 3).callback([](int y) { ... }).error_callback([](std::exception_ptr e) { ... });
  template <class F>
  AsyncResult& callback(F f) {
    return call_back([state = state_.get(), f = std::move(f)]() mutable {
      if (state->error()) return;
      if constexpr (std::is_void_v<R>) {
        f();
      } else if (state->comes_as_message()) {
        const R value = pool::value_of<R, true>(*state);
        f(value);
      } else {
        f(std::as_const(static_cast<pool::ValueState<R>&>(*state).value()));
      }
    });
  }
  // Calls f(std::exception_ptr) if it ends with an error.
  template <class F>
  AsyncResult& error_callback(F f) {
    return call_back([state = state_.get(), f = std::move(f)]() mutable {
      if (auto e = state->error()) f(std::move(e));
    });
  }

 private:
  void finish(Timeout timeout) const {
    if (!wait(timeout)) throw TimeoutError("the result is not ready yet");
  }
  template <class F>
  AsyncResult& call_back(F f) {
    auto called = pool::Held<pool::LocalState>::make();
    calls_.push_back(called);
    state_->add_callback([state = state_, called, f = std::move(f)]() mutable {
      pool::call_back(std::ref(f));
      called->cancel();  // ends the wait for it
    });
    return *this;
  }

  pool::Held<pool::FutureState> state_;
  std::vector<pool::Held<pool::LocalState>> calls_;
};

namespace pool {

// All of a map as one state. Values are taken over when somebody asks, not in the thread that completes the last.
template <class R>
class MapState final : public ValueState<Results<R>> {
 public:
  explicit MapState(std::shared_ptr<MapSource<R>> source) : source_(std::move(source)) {}
  // Nobody asks any more, but the map goes on.
  ~MapState() override {
    source_->on_done([keep = source_] {});
  }

  FutureStatus status() noexcept override {
    return wait(os::Deadline(std::chrono::seconds(0))) ? FutureStatus::finished : FutureStatus::running;
  }
  bool wait(const os::Deadline& deadline) override { return source_->wait_all(deadline); }
  bool cancel() override { return false; }
  void add_callback(std::function<void()> f) override { source_->on_done(std::move(f)); }

 protected:
  void settle() override {
    std::lock_guard guard(this->mutex_);
    if (std::exchange(settled_, true)) return;
    this->status_ = FutureStatus::finished;
    try {
      this->value_.emplace(source_);
    } catch (...) {
      this->error_ = std::current_exception();
    }
  }

 private:
  std::shared_ptr<MapSource<R>> source_;
  bool settled_ = false;
};

}  // namespace pool
}  // namespace mp
