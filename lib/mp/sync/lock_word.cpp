#include "mp/sync/lock_word.hpp"

#include <string>

#include "mp/errors.hpp"
#include "mp/os/futex.hpp"
#include "mp/os/spin.hpp"

namespace mp::sync {

Acquired LockWord::acquire_slowly(memory::Tag me, const os::Deadline& deadline) noexcept {
  static thread_local os::Spinner spin;
  std::uint32_t mark = 0;  // once we have slept, others may sleep still: keep the flag for them
  for (;;) {
    std::uint32_t now = word_.load(std::memory_order_relaxed);
    if (now == 0) {
      if (word_.compare_exchange_weak(now, me | mark, std::memory_order_acquire, std::memory_order_relaxed))
        return Acquired::yes;
      continue;
    }
    if (deadline.passed()) return owner_is_gone() ? Acquired::owner_died : Acquired::timed_out;
    if (mark == 0 && spin([&] { return word_.load(std::memory_order_relaxed) == 0; })) continue;
    now = word_.load(std::memory_order_relaxed);
    if (now == 0) continue;
    if (!(now & kSleepers) && !word_.compare_exchange_weak(now, now | kSleepers, std::memory_order_relaxed)) continue;
    mark = kSleepers;
    now |= kSleepers;
    os::Woken woken = os::futex_wait(word_, now, deadline.next(os::kSlice));
    if (woken == os::Woken::woken || woken == os::Woken::changed || word_.load(std::memory_order_relaxed) != now)
      continue;
    // Also after a signal: a timer's may come more often than a slice ends.
    if (!memory::alive(now & ~kSleepers)) return Acquired::owner_died;
  }
}

void LockWord::wake() noexcept { os::futex_wake(word_, 1); }

memory::Tag LockWord::seize(memory::Tag me) noexcept {
  std::uint32_t now = word_.load(std::memory_order_relaxed);
  // A waiter may set the flag meanwhile.
  do {
    if (now == 0 || memory::alive(now & ~kSleepers)) return memory::kNobody;
  } while (!word_.compare_exchange_weak(now, me | kSleepers, std::memory_order_acquire, std::memory_order_relaxed));
  return now & ~kSleepers;
}

bool LockWord::owner_is_gone() const noexcept {
  static thread_local const LockWord* asked_last = nullptr;
  static thread_local std::chrono::nanoseconds asked_at{0};
  memory::Tag who = owner();
  if (who == memory::kNobody || who == memory::self()) return false;
  auto now = os::monotonic_now();
  if (asked_last == this && now - asked_at < os::kSlice) return false;
  if (!memory::alive(who)) return owner() == who;
  asked_last = this;
  asked_at = now;
  return false;
}

void throw_owner_died(const char* what, memory::Tag owner) {
  pid_t pid = memory::pid_of(owner);
  throw OwnerDied("the process " + (pid ? std::to_string(pid) + " " : std::string()) + "that held this " + what +
                  " died without giving it back: put right what it protects, then recover() it");
}

std::uint32_t new_thread_number() noexcept {
  static std::atomic<std::uint32_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace mp::sync
