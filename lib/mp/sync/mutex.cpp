#include "mp/sync/mutex.hpp"

#include "mp/os/clock.hpp"
#include "mp/os/futex.hpp"
#include "mp/os/spin.hpp"

namespace mp::sync {

bool Mutex::lock_slowly(memory::Tag me) noexcept {
  static thread_local os::Spinner spin;
  std::uint32_t mark = 0;  // once we have slept, others may sleep still: keep the flag for them
  for (;;) {
    std::uint32_t now = word_.load(std::memory_order_relaxed);
    if (now == 0) {
      if (word_.compare_exchange_weak(now, me | mark, std::memory_order_acquire, std::memory_order_relaxed)) return false;
      continue;
    }
    if (mark == 0 && spin([&] { return word_.load(std::memory_order_relaxed) == 0; })) continue;
    now = word_.load(std::memory_order_relaxed);
    if (now == 0) continue;
    if (!(now & kSleepers) && !word_.compare_exchange_weak(now, now | kSleepers, std::memory_order_relaxed)) continue;
    mark = kSleepers;
    now |= kSleepers;
    if (os::futex_wait(word_, now, os::kSlice) != os::Woken::timed_out) continue;
    if (memory::alive(now & ~kSleepers)) continue;
    if (word_.compare_exchange_strong(now, me | kSleepers, std::memory_order_acquire, std::memory_order_relaxed)) return true;
  }
}

void Mutex::wake() noexcept { os::futex_wake(word_, 1); }

}  // namespace mp::sync
