#include "mp/sync/event_word.hpp"

namespace mp::sync {

void EventWord::wake(int count) noexcept {
  std::uint32_t now = word_.fetch_add(2, std::memory_order_seq_cst) + 2;
  // Found nobody, or woke all: the flag was stale or is now. Cleared only if nobody has touched the word meanwhile; one
  // who fell asleep in just that moment looks again after one slice.
  if (os::futex_wake(word_, count) < count) word_.compare_exchange_strong(now, now & ~1u, std::memory_order_seq_cst);
}

}  // namespace mp::sync
