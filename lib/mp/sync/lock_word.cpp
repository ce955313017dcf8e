#include "mp/sync/lock_word.hpp"

#include <string>

#include "mp/errors.hpp"
#include "mp/os/futex.hpp"
#include "mp/os/spin.hpp"

namespace mp::sync {

Acquired LockWord::acquire_slowly(memory::Tag me, const os::Deadline& deadline) noexcept {
  static thread_local os::Spinner spin;
  std::uint32_t mark = 0;  // once we have slept, others may sleep still
  for (;;) {
    std::uint32_t now = word_.load(std::memory_order_relaxed);
    if (now == 0) {
      if (word_.compare_exchange_weak(now, me | mark, std::memory_order_acquire, std::memory_order_relaxed)) return Acquired::yes;
      continue;
    }
    if (mark == 0 && !deadline.passed() && spin([&] { return word_.load(std::memory_order_relaxed) == 0; })) continue;
    now = word_.load(std::memory_order_relaxed);
    if (now == 0) continue;
    if (!(now & kSleepers) && !word_.compare_exchange_weak(now, now | kSleepers, std::memory_order_relaxed)) continue;
    mark = kSleepers;
    now |= kSleepers;
    if (os::futex_wait(word_, now, deadline.next(os::kSlice)) != os::Woken::timed_out) continue;
    if (word_.load(std::memory_order_relaxed) != now) continue;
    if (!memory::alive(now & ~kSleepers)) return Acquired::owner_died;
    if (deadline.passed()) return Acquired::timed_out;
  }
}

void LockWord::wake() noexcept { os::futex_wake(word_, 1); }

bool LockWord::seize(memory::Tag me) noexcept {
  std::uint32_t now = word_.load(std::memory_order_relaxed);
  if (now == 0 || memory::alive(now & ~kSleepers)) return false;
  return word_.compare_exchange_strong(now, me | kSleepers, std::memory_order_acquire, std::memory_order_relaxed);
}

void throw_owner_died(const char* what, memory::Tag owner) {
  pid_t pid = memory::pid_of(owner);
  throw OwnerDied("the process " + (pid ? std::to_string(pid) + " " : std::string()) + "that held this " + what +
                  " died without giving it back: put right what it protects, then recover() it");
}

std::uint32_t this_thread() noexcept {
  static std::atomic<std::uint32_t> last{0};
  static thread_local const std::uint32_t mine = last.fetch_add(1, std::memory_order_relaxed) + 1;
  return mine;
}

}  // namespace mp::sync
