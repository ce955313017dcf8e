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

FutureStatus FutureState::status() noexcept {
  std::lock_guard guard(mutex_);
  return status_;
}

bool FutureState::wait(const os::Deadline& deadline) {
  std::unique_lock guard(mutex_);
  while (status_ < FutureStatus::cancelled) {
    auto left = deadline.next(std::chrono::hours(1));
    if (left == left.zero()) return false;
    changed_.wait_for(guard, left);
  }
  return true;
}

bool FutureState::cancel() {
  {
    std::lock_guard guard(mutex_);
    if (status_ == FutureStatus::cancelled) return true;
    if (status_ != FutureStatus::pending) return false;
    status_ = FutureStatus::cancelled;
  }
  announce();
  return true;
}

void FutureState::add_callback(std::function<void()> f) {
  {
    std::lock_guard guard(mutex_);
    if (status_ < FutureStatus::cancelled) {
      callbacks_.push_back(std::move(f));
      return;
    }
  }
  call_back(f);
}

std::exception_ptr FutureState::error() {
  settle();
  std::lock_guard guard(mutex_);
  if (status_ == FutureStatus::cancelled && !error_) error_ = std::make_exception_ptr(CancelledError());
  return error_;
}

bool FutureState::set_running() {
  std::lock_guard guard(mutex_);
  if (status_ == FutureStatus::cancelled) return false;
  if (status_ != FutureStatus::pending) throw InvalidStateError("the future is already running or done");
  status_ = FutureStatus::running;
  return true;
}

void FutureState::set_error(std::exception_ptr e) {
  complete([&] { error_ = std::move(e); });
}

void FutureState::announce() {
  changed_.notify_all();
  run_callbacks();
}

void FutureState::run_callbacks() {
  std::vector<std::function<void()>> todo;
  {
    std::lock_guard guard(mutex_);
    todo.swap(callbacks_);
  }
  for (auto& f : todo) call_back(f);
}

}  // namespace mp::pool
