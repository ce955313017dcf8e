// The word under Lock and RLock: who holds it, and what it means that he is dead. Unlike Mutex it does not take over from a
// dead owner: the user's data may be half-changed, so the user is told.
//
// The word: bits 0-30 the owner's tag (0 = free), bit 31 somebody may sleep. One compare-exchange acquires, one exchange
// releases; both are the commit points.
#pragma once

#include <atomic>
#include <cstdint>

#include "mp/memory/family.hpp"
#include "mp/os/clock.hpp"

namespace mp::sync {

enum class Acquired : std::uint8_t { yes, timed_out, owner_died };

class LockWord {
 public:
  bool try_acquire(memory::Tag me) noexcept {
    std::uint32_t now = 0;
    return word_.compare_exchange_strong(now, me, std::memory_order_acquire, std::memory_order_relaxed);
  }
  Acquired acquire(memory::Tag me, const os::Deadline& deadline) noexcept {
    return try_acquire(me) ? Acquired::yes : acquire_slowly(me, deadline);
  }
  // False if it was free.
  bool release() noexcept {
    std::uint32_t was = word_.exchange(0, std::memory_order_release);
    if (was & kSleepers) [[unlikely]] wake();
    return was != 0;
  }
  memory::Tag owner() const noexcept { return word_.load(std::memory_order_relaxed) & ~kSleepers; }
  // Takes the lock over from a dead owner; false if it is free or its owner lives.
  bool seize(memory::Tag me) noexcept;

 private:
  static constexpr std::uint32_t kSleepers = 1u << 31;
  Acquired acquire_slowly(memory::Tag me, const os::Deadline& deadline) noexcept;
  void wake() noexcept;

  std::atomic<std::uint32_t> word_{0};
};
static_assert(sizeof(LockWord) == 4);

// Throws OwnerDied, naming what is locked and who died.
[[noreturn]] void throw_owner_died(const char* what, memory::Tag owner);

// A number for the calling thread, unique in its process.
std::uint32_t this_thread() noexcept;

}  // namespace mp::sync
