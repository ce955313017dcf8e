// The typed skin of a process pool's tasks: how a callable and its arguments are written into a slot, run in the worker,
// and how the result is read back. Everything below it is bytes.
#pragma once

#include <functional>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

#include "mp/pickle/callable.hpp"
#include "mp/pickle/pickle.hpp"
#include "mp/pool/call.hpp"
#include "mp/pool/engine.hpp"
#include "mp/pool/future.hpp"

namespace mp::pool {

template <class R>
class TaskState final : public ValueState<R>, public SlotTask {
 public:
  explicit TaskState(Ticket ticket) noexcept : SlotTask(std::move(ticket)) {}

  FutureStatus status() noexcept override {
    std::lock_guard guard(this->mutex_);
    if (settled_) return this->status_;
    switch (look()) {
      case Phase::claimed: return FutureStatus::running;
      case Phase::done: return FutureStatus::finished;
      case Phase::cancelled: return FutureStatus::cancelled;
      default: return FutureStatus::pending;
    }
  }

  bool wait(const os::Deadline& deadline) override {
    {
      std::lock_guard guard(this->mutex_);
      if (settled_) return true;
    }
    return sleep(deadline);
  }

  bool cancel() override {
    {
      std::lock_guard guard(this->mutex_);
      if (settled_) return this->status_ == FutureStatus::cancelled;
      if (!ticket_.engine->board().cancel(ticket_.slot, ticket_.generation)) return look() == Phase::cancelled;
      if (std::exchange(reporting_, false)) ticket_.engine->unwatch(ticket_);
      settle_here();
    }
    this->run_callbacks();
    return true;
  }

  bool kill() override { return cancel() || ticket_.engine->kill(ticket_); }

  void add_callback(std::function<void()> f) override {
    {
      std::lock_guard guard(this->mutex_);
      this->callbacks_.push_back(std::move(f));
      if (reporting_) return;
      if (!settled_) {
        if (ask_for_report(std::dynamic_pointer_cast<SlotTask>(this->shared_from_this()))) {
          reporting_ = true;
          return;
        }
        settle_here();
      }
    }
    this->run_callbacks();
  }

  void reported() noexcept override {
    {
      std::lock_guard guard(this->mutex_);
      settle_here();
      if (std::exchange(reporting_, false)) ticket_.engine->give_back(ticket_.slot);
    }
    this->run_callbacks();
  }

 protected:
  void settle() override {
    std::lock_guard guard(this->mutex_);
    settle_here();
  }

 private:
  // Reads the outcome out of the slot, once, and lets go of it. Caller holds the mutex.
  void settle_here() noexcept {
    if (settled_) return;
    Phase phase = look();
    if (phase != Phase::done && phase != Phase::cancelled) return;
    Slot& s = slot();
    this->status_ = phase == Phase::cancelled ? FutureStatus::cancelled : FutureStatus::finished;
    try {
      if (phase == Phase::cancelled || s.outcome != Outcome::value) {
        this->error_ = ticket_.engine->error_of(ticket_.slot);
      } else if constexpr (std::is_void_v<R>) {
        this->value_.emplace();
      } else {
        pickle::Reader in(payload(s.result, s.place));
        this->value_.emplace(pickle::load<R>(in));
      }
    } catch (...) {
      this->error_ = std::current_exception();
    }
    settled_ = true;
    if (!reporting_) ticket_.engine->give_back(ticket_.slot);
  }
};

// What a worker runs for submit(f, args...): everything by value, as it came.
template <class F, class... Args>
void run_task(pickle::Reader& in, pickle::Writer& out) {
  F f = pickle::load_callable<F>(in);
  std::tuple<Args...> args{pickle::load<Args>(in)...};
  using R = std::invoke_result_t<F&, Args...>;
  if constexpr (std::is_void_v<R>) std::apply([&](Args&... a) { std::invoke(f, std::move(a)...); }, args);
  else
    pickle::dump(out, static_cast<const std::decay_t<R>&>(
                          std::apply([&](Args&... a) -> R { return std::invoke(f, std::move(a)...); }, args)));
}

template <class R>
Future<R> make_future(const Ticket& ticket) {
  return Future<R>(std::make_shared<TaskState<R>>(ticket));
}

template <class F, class... Args>
auto submit(ProcessEngine& engine, const TaskOptions& options, const F& f, const Args&... args) {
  using R = ResultOf<F, Args...>;
  static const pickle::CodeRef code = pickle::code_ref(&run_task<F, Args...>);
  return engine.post(code, options, false, make_future<R>, [&](pickle::Writer& out) {
    pickle::dump_callable(out, f);
    (pickle::dump(out, args), ...);
  });
}

}  // namespace mp::pool
