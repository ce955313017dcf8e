#include "mp/pool/thread_map.hpp"

#include <algorithm>

namespace mp::pool {

MapProgress::MapProgress(std::size_t items, std::size_t chunk, unsigned workers)
    : size_(items),
      chunk_(chunk),
      workers_(workers),
      states_(new std::atomic<State>[items]()),
      left_(items) {}

std::optional<MapProgress::Chunk> MapProgress::claim() noexcept {
  std::size_t begin = next_.load(std::memory_order_relaxed);
  for (;;) {
    if (begin >= size_) return std::nullopt;
    // A quarter of an even share of what is left: the last chunks are single items, so that no thread ends much later.
    std::size_t length = chunk_ ? chunk_ : std::max<std::size_t>(1, (size_ - begin) / (4 * std::size_t{workers_}));
    std::size_t end = begin + std::min(length, size_ - begin);
    if (next_.compare_exchange_weak(begin, end, std::memory_order_relaxed)) return Chunk{begin, end};
  }
}

void MapProgress::failed(std::size_t item, std::exception_ptr error) noexcept {
  {
    std::lock_guard guard(mutex_);
    errors_[item] = std::move(error);
  }
  settle(item, State::error);
}

// Either the waiter sees the state or this sees the waiter: both store first and then look (seq_cst).
void MapProgress::settle(std::size_t item, State state) noexcept {
  states_[item].store(state, std::memory_order_seq_cst);
  std::size_t wanted = wanted_.load(std::memory_order_seq_cst);
  if (wanted != item && wanted != kSeveral) return;
  { std::lock_guard guard(mutex_); }
  changed_.notify_all();
}

void MapProgress::finish(std::size_t items) noexcept {
  if (left_.fetch_sub(items, std::memory_order_acq_rel) != items) return;
  std::vector<std::function<void()>> todo;
  {
    std::lock_guard guard(mutex_);
    todo.swap(callbacks_);
  }
  for (auto& f : todo) call_back(f);
}

void MapProgress::cancel(const std::exception_ptr& why) noexcept {
  if (left_.load(std::memory_order_acquire) == 0) return;
  {
    std::lock_guard guard(mutex_);
    if (!why_) why_ = why ? why : std::make_exception_ptr(CancelledError());
  }
  cancelled_.store(true, std::memory_order_relaxed);
  std::size_t begin = next_.exchange(size_, std::memory_order_relaxed);
  for (std::size_t i = begin; i < size_; ++i) dropped(i);
  if (begin < size_) finish(size_ - begin);
}

bool MapProgress::wait(std::size_t item, const os::Deadline& deadline) {
  if (known(item) || (pace_.keep(deadline) && known(item))) return true;
  std::unique_lock guard(mutex_);
  wanted_.store(++waiters_ == 1 ? item : kSeveral, std::memory_order_seq_cst);
  bool here;
  while (!(here = known(item))) {
    auto left = deadline.next(std::chrono::hours(1));
    if (left == left.zero()) break;
    changed_.wait_for(guard, left);
  }
  if (--waiters_ == 0) wanted_.store(kNobody, std::memory_order_relaxed);
  pace_.wait_has_ended();
  return here;
}

std::exception_ptr MapProgress::take_error(std::size_t item) {
  State state = states_[item].load(std::memory_order_acquire);
  if (state == State::value) return nullptr;
  std::lock_guard guard(mutex_);
  if (state == State::dropped) return why_;
  return std::move(errors_.extract(item).mapped());
}

void MapProgress::on_done(std::function<void()> f) {
  {
    std::lock_guard guard(mutex_);
    if (left_.load(std::memory_order_acquire) > 0) {
      callbacks_.push_back(std::move(f));
      return;
    }
  }
  call_back(f);
}

}  // namespace mp::pool
