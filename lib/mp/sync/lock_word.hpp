// The word under every lock of this room: who holds it, and whether he lives. What his death means is decided above: Mutex
// takes over, Lock and RLock tell their user, whose data may be half changed.
//
// The word: bits 0-30 the owner's tag (0 = free), bit 31 somebody may sleep.
// Commit points: the compare-exchange that writes the tag acquires, the exchange that clears it releases.
// Invariant: while somebody sleeps, the flag is set, or a woken one is on its way to set it again.
//
// *Thread and process safety*: any thread of any process; threads of one process contend like processes. A fork child is
// another owner.
// *Memory ordering*: what was written before release() is visible after the next acquire.
// *If a process is killed*: the owner: those who wait find out within one slice (20 ms); a sleeper: nothing; one that was
// woken and died: its wake-up is lost, the others look again after one slice.
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
    if (try_acquire(me)) [[likely]]
      return Acquired::yes;
    return acquire_slowly(me, deadline);
  }
  // False if it was free. `back_to`: a dead owner whom the word shall name again.
  bool release(memory::Tag back_to = memory::kNobody) noexcept {
    std::uint32_t was = word_.exchange(back_to, std::memory_order_release);
    if (was & kSleepers) [[unlikely]]
      wake();
    return was != 0;
  }
  memory::Tag owner() const noexcept { return word_.load(std::memory_order_relaxed) & ~kSleepers; }
  // Takes the lock over from a dead owner: from whom; kNobody if it is free or its owner lives.
  memory::Tag seize(memory::Tag me) noexcept;
  // For those who only look, again and again: whether the owner is dead. Asks the kernel once a slice, and says no meanwhile.
  bool owner_is_gone() const noexcept;

 private:
  static constexpr std::uint32_t kSleepers = 1u << 31;
  Acquired acquire_slowly(memory::Tag me, const os::Deadline& deadline) noexcept;
  void wake() noexcept;

  std::atomic<std::uint32_t> word_{0};
};
static_assert(sizeof(LockWord) == 4);

// Throws OwnerDied, naming what is locked and who died.
[[noreturn]] void throw_owner_died(const char* what, memory::Tag owner);

// A number for the calling thread, unique in its process, never 0.
std::uint32_t new_thread_number() noexcept;
inline std::uint32_t this_thread() noexcept {
  static thread_local std::uint32_t mine = 0;
  if (mine == 0) [[unlikely]]
    mine = new_thread_number();
  return mine;
}

}  // namespace mp::sync
