#include "mp/sync/lock_word.hpp"

#include <string>
#include <utility>

#include "mp/errors.hpp"
#include "mp/os/spin.hpp"

namespace mp::sync {

Acquired LockWord::acquire_slowly(memory::Tag me, const os::Deadline& deadline) noexcept {
  static thread_local os::Spinner spin;
  bool may_spin = true;
  for (;;) {
    const memory::Tag holder = owner();
    if (holder == memory::kNobody) {
      if (try_acquire(me)) return Acquired::yes;
      continue;
    }
    if (deadline.passed()) return owner_is_gone() ? Acquired::owner_died : Acquired::timed_out;
    if (std::exchange(may_spin, false) && spin([&] { return owner() == memory::kNobody; })) {
      may_spin = true;
      continue;
    }
    const std::uint32_t seen = freed_.prepare();
    if (owner() == memory::kNobody) continue;
    if (memory::found_dead(holder)) return Acquired::owner_died;
    const os::Woken woken = freed_.wait(seen, deadline);
    if (woken == os::Woken::woken || woken == os::Woken::changed || owner() != holder) continue;
    // Also after a signal: a timer's may come more often than a slice ends.
    if (!memory::alive(holder)) return Acquired::owner_died;
  }
}

memory::Tag LockWord::seize(memory::Tag me) noexcept {
  memory::Tag dead = owner();
  do {
    if (dead == memory::kNobody || memory::alive(dead)) return memory::kNobody;
  } while (!word_.compare_exchange_weak(dead, me, std::memory_order_acquire, std::memory_order_relaxed));
  return dead;
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
