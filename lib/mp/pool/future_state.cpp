#include "mp/pool/future_state.hpp"

#include <cstdio>

namespace mp::pool {

void call_back(const std::function<void()>& f) noexcept {
  try {
    f();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "mp: exception in a future's callback: %s\n", e.what());
  } catch (...) {
    std::fprintf(stderr, "mp: exception in a future's callback\n");
  }
}

void FutureState::not_by_hand() { throw InvalidStateError("the outcome of a pool's task is its worker's to set"); }

std::span<const std::byte> FutureState::message() { return {}; }
bool FutureState::set_running() { not_by_hand(); }
void FutureState::set_error(std::exception_ptr) { not_by_hand(); }

FutureStatus LocalState::status() noexcept {
  std::lock_guard guard(mutex_);
  return status_;
}

bool LocalState::wait(const os::Deadline& deadline) {
  std::unique_lock guard(mutex_);
  while (status_ < FutureStatus::cancelled) {
    auto left = deadline.next(std::chrono::hours(1));
    if (left == left.zero()) return false;
    changed_.wait_for(guard, left);
  }
  return true;
}

bool LocalState::cancel() {
  {
    std::lock_guard guard(mutex_);
    if (status_ == FutureStatus::cancelled) return true;
    if (status_ != FutureStatus::pending) return false;
    status_ = FutureStatus::cancelled;
  }
  announce();
  return true;
}

void LocalState::add_callback(std::function<void()> f) {
  {
    std::lock_guard guard(mutex_);
    if (status_ < FutureStatus::cancelled) {
      callbacks_.push_back(std::move(f));
      return;
    }
  }
  call_back(f);
}

std::exception_ptr LocalState::error() {
  settle();
  std::lock_guard guard(mutex_);
  if (status_ == FutureStatus::cancelled && !error_) error_ = std::make_exception_ptr(CancelledError());
  return error_;
}

bool LocalState::set_running() {
  std::lock_guard guard(mutex_);
  if (status_ == FutureStatus::cancelled) return false;
  if (status_ != FutureStatus::pending) throw InvalidStateError("the future is already running or done");
  status_ = FutureStatus::running;
  return true;
}

void LocalState::set_error(std::exception_ptr e) {
  complete([&] { error_ = std::move(e); });
}

void LocalState::announce() {
  changed_.notify_all();
  std::vector<std::function<void()>> todo;
  {
    std::lock_guard guard(mutex_);
    todo.swap(callbacks_);
  }
  for (auto& f : todo) call_back(f);
}

}  // namespace mp::pool
