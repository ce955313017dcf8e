// Future: the outcome, some day, of one task. As Python's concurrent.futures.Future; the same class for process and
// thread pools. A handle: copies name the same task.
//
// *Thread and process safety*: any thread of the process that submitted; a Future does not travel to other processes,
// and a fork child's copy is void.
// *If a process is killed*: the worker: the task ends in WorkerCrashed (or is tried again); the submitter: its pool ends.
#pragma once

#include <coroutine>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "mp/pickle/crashed.hpp"
#include "mp/pickle/range.hpp"
#include "mp/pickle/remote.hpp"
#include "mp/pool/future_state.hpp"

namespace mp {

template <class R>
class Future {
 public:
  using value_type = R;

  // A future that no executor knows: pending until set_result or set_exception (for tests and own executors).
  Future() : state_(pool::Held<pool::ValueState<R>>::make()) {}
  explicit Future(pool::Held<pool::FutureState> state) noexcept : state_(std::move(state)) {}

  // The task's value; blocks until it is done, at most `timeout`. Throws TimeoutError (the task goes on), CancelledError,
  // or what the task ended with: its own exception, WorkerCrashed, RemoteError, BrokenProcessPool. May be asked again;
  // asked of an rvalue, the value is moved out.
  R result(Timeout timeout = {}) const& {
    finish(timeout);
    return pool::value_of<R, false>(*state_);
  }
  R result(Timeout timeout = {}) && {
    finish(timeout);
    return pool::value_of<R, true>(*state_);
  }

  // The error the task ended with, null for a value; blocks and throws TimeoutError and CancelledError as result() does.
  std::exception_ptr exception(Timeout timeout = {}) const {
    finish(timeout);
    if (cancelled()) throw CancelledError();
    return state_->error();
  }

  // True if the task will not run; false if it runs or is finished.
  bool cancel() { return state_->cancel(); }
  // Cancels it even if it runs: its worker process is killed and replaced. False if it is finished (or runs in a thread).
  bool kill() { return state_->kill(); }
  bool cancelled() const noexcept { return state_->status() == FutureStatus::cancelled; }
  bool running() const noexcept { return state_->status() == FutureStatus::running; }
  bool done() const noexcept { return state_->done(); }

  // Calls f(*this) once when the task is done, in the thread that completes it; at once if it is. What f throws is
  // printed and ignored.
  template <class F>
  void add_done_callback(F f) {
    state_->add_callback([f = std::move(f), future = *this]() mutable { f(future); });
  }

  // For own executors and tests; InvalidStateError where the future is done (or, the first, not pending).
  bool set_running_or_notify_cancel() { return state_->set_running(); }
  template <class V = R>
    requires(!std::is_void_v<R>)
  void set_result(V&& value) {
    value_state().set_value(std::forward<V>(value));
  }
  void set_result()
    requires(std::is_void_v<R>)
  {
    value_state().set_value({});
  }
  void set_exception(std::exception_ptr e) { state_->set_error(std::move(e)); }

  // co_await future: resumes in the thread that completes the task.
  auto operator co_await() const {
    struct Awaiter {
      pool::Held<pool::FutureState> state;
      bool await_ready() const noexcept { return state->done(); }
      void await_suspend(std::coroutine_handle<> h) {
        state->add_callback([h] { h.resume(); });
      }
      R await_resume() { return Future(std::move(state)).result(); }
    };
    return Awaiter{state_};
  }

  friend bool operator==(const Future&, const Future&) noexcept = default;
  pool::FutureState& state() const noexcept { return *state_; }
  const pool::Held<pool::FutureState>& shared_state() const noexcept { return state_; }

 private:
  void finish(Timeout timeout) const {
    if (!state_->wait(os::Deadline(timeout))) throw TimeoutError("the task is not done yet");
  }

  pool::ValueState<R>& value_state() const {
    if (state_->comes_as_message()) throw InvalidStateError("the outcome of a pool's task is its worker's to set");
    return static_cast<pool::ValueState<R>&>(*state_);
  }

  pool::Held<pool::FutureState> state_;
};

// When wait() returns.
enum class ReturnWhen : std::uint8_t { first_completed, first_exception, all_completed };
inline constexpr ReturnWhen FIRST_COMPLETED = ReturnWhen::first_completed;
inline constexpr ReturnWhen FIRST_EXCEPTION = ReturnWhen::first_exception;
inline constexpr ReturnWhen ALL_COMPLETED = ReturnWhen::all_completed;

namespace pool {

// Waits for futures of any types; shared by wait() and as_completed().
class Gathering {
 public:
  // Every state is watched once however often it is listed.
  explicit Gathering(const std::vector<FutureState*>& states);
  ~Gathering();
  Gathering(Gathering&&) noexcept = default;
  Gathering& operator=(Gathering&&) noexcept = default;
  // Index (into the list given) of the next one done, in the order of completion; nothing when the time is over.
  std::optional<std::size_t> next(const os::Deadline& deadline);
  std::size_t left() const noexcept { return left_; }

 private:
  struct Inbox;
  std::shared_ptr<Inbox> inbox_;
  std::size_t left_ = 0;
};

template <class Futures>
std::vector<FutureState*> states_of(const Futures& futures) {
  std::vector<FutureState*> states;
  for (const auto& f : futures) states.push_back(&f.state());
  return states;
}

}  // namespace pool

template <class R>
struct DoneAndNotDone {
  std::vector<Future<R>> done, not_done;
};

// Blocks until `when` is true of the futures or the time is over; never throws for a timeout. Duplicates count once.
template <class Futures, class R = typename pickle::RangeValue<Futures>::value_type>
DoneAndNotDone<R> wait(const Futures& futures, Timeout timeout = {}, ReturnWhen when = ALL_COMPLETED) {
  std::vector<Future<R>> list;
  std::unordered_set<const pool::FutureState*> seen;
  for (const auto& f : futures)
    if (seen.insert(&f.state()).second) list.push_back(f);
  os::Deadline deadline(timeout);
  pool::Gathering gathering(pool::states_of(list));
  std::vector<bool> finished(list.size());
  while (gathering.left() > 0) {
    auto index = gathering.next(deadline);
    if (!index) break;
    finished[*index] = true;
    if (when == FIRST_COMPLETED) break;
    if (when == FIRST_EXCEPTION && !list[*index].cancelled() && list[*index].state().error()) break;
  }
  DoneAndNotDone<R> result;
  for (std::size_t i = 0; i < list.size(); ++i)
    (finished[i] || list[i].done() ? result.done : result.not_done).push_back(list[i]);
  return result;
}
template <class Futures, class R = typename pickle::RangeValue<Futures>::value_type>
DoneAndNotDone<R> wait(const Futures& futures, ReturnWhen when) {
  return wait(futures, Timeout(), when);
}

// The futures as they are done, finished ones first: an input range of Future<R>&. Its clock starts at the call. When the
// time is over, the step to the next throws TimeoutError "2 (of 4) futures unfinished".
template <class R>
class AsCompleted {
 public:
  AsCompleted(std::vector<Future<R>> futures, Timeout timeout)
      : futures_(std::move(futures)),
        deadline_(timeout),
        gathering_(pool::states_of(futures_)),
        total_(gathering_.left()) {}

  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = Future<R>;
    using difference_type = std::ptrdiff_t;
    iterator() = default;
    explicit iterator(AsCompleted& owner) : owner_(&owner) { ++*this; }
    Future<R>& operator*() const noexcept { return owner_->futures_[index_]; }
    Future<R>* operator->() const noexcept { return &**this; }
    iterator& operator++() {
      if (owner_->gathering_.left() == 0) {
        owner_ = nullptr;
        return *this;
      }
      auto index = owner_->gathering_.next(owner_->deadline_);
      if (!index)
        throw TimeoutError(std::to_string(owner_->gathering_.left()) + " (of " + std::to_string(owner_->total_) +
                           ") futures unfinished");
      index_ = *index;
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& it, std::default_sentinel_t) noexcept { return it.owner_ == nullptr; }

   private:
    AsCompleted* owner_ = nullptr;
    std::size_t index_ = 0;
  };
  iterator begin() { return iterator(*this); }
  std::default_sentinel_t end() const noexcept { return {}; }

 private:
  std::vector<Future<R>> futures_;
  os::Deadline deadline_;
  pool::Gathering gathering_;
  std::size_t total_;
};

template <class Futures, class R = typename pickle::RangeValue<Futures>::value_type>
AsCompleted<R> as_completed(const Futures& futures, Timeout timeout = {}) {
  return AsCompleted<R>(std::vector<Future<R>>(std::begin(futures), std::end(futures)), timeout);
}

}  // namespace mp
