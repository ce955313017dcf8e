#include "mp/sync/event_word.hpp"

namespace mp::sync {

void EventWord::wake_one() noexcept {
  std::uint32_t now = word_.fetch_add(2, std::memory_order_seq_cst) + 2;
  if (os::futex_wake(word_, 1) > 0) return;
  // Nobody slept: the flag was stale. One who fell asleep just before it is cleared is woken after.
  if (word_.compare_exchange_strong(now, now & ~1u, std::memory_order_seq_cst)) os::futex_wake(word_, os::kAll);
}

void EventWord::wake_all() noexcept {
  // Cleared as it moves: who sleeps is woken below, who comes later sets the flag anew.
  std::uint32_t now = word_.load(std::memory_order_relaxed);
  while (!word_.compare_exchange_weak(now, (now + 2) & ~1u, std::memory_order_seq_cst, std::memory_order_relaxed)) {}
  os::futex_wake(word_, os::kAll);
}

}  // namespace mp::sync
