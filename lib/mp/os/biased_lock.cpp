#include "mp/os/biased_lock.hpp"

namespace mp::os {

void BiasedLock::lock_slowly() noexcept {
  std::uintptr_t bias = 0;
  if (bias_.compare_exchange_strong(bias, this_thread(), std::memory_order_acq_rel)) return lock();
  shared_.lock();
  if (bias_.load(std::memory_order_relaxed) != kShared) take_bias_away();
  by_bias_ = false;
}

void BiasedLock::take_bias_away() noexcept {
  bias_.store(kShared, std::memory_order_seq_cst);
  // Refused only where system calls were filtered after this process had enlisted; no store takes that long to be seen.
  if (!heavy_fence()) nap();
  nap_until([this] { return !inside_.load(std::memory_order_acquire); });
}

}  // namespace mp::os
