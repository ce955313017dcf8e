#include "mp/sync/event_word.hpp"

namespace mp::sync {

[[gnu::hot]] bool EventWord::wake_one() noexcept {
  if (!(word_.load(std::memory_order_relaxed) & kSeveral)) return wake_all();
  std::uint32_t now = word_.fetch_add(kStep, std::memory_order_seq_cst) + kStep;
  if (os::futex_wake(word_, 1) > 0) return true;
  // Nobody slept: the flags were stale. One who fell asleep just before they are cleared is woken after.
  return word_.compare_exchange_strong(now, now & ~kFlags, std::memory_order_seq_cst) &&
         os::futex_wake(word_, os::kAll) > 0;
}

[[gnu::hot]] bool EventWord::wake_all() noexcept {
  // Cleared as it moves: who sleeps is woken below, who comes later sets them anew.
  std::uint32_t now = word_.load(std::memory_order_relaxed);
  while (!word_.compare_exchange_weak(now, (now + kStep) & ~kFlags, std::memory_order_seq_cst,
                                      std::memory_order_relaxed)) {}
  return os::futex_wake(word_, os::kAll) > 0;
}

}  // namespace mp::sync
