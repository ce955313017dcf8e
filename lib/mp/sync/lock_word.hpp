// The word under every lock of this room: who holds it, and whether he lives. What his death means is decided above: Mutex
// takes over, Lock and RLock tell their user, whose data may be half changed.
//
// The word: bits 0-30 the owner's tag, 0 = free. Who waits sleeps on the event word behind it.
// Commit points: the compare-exchange that writes the tag acquires, the store that clears it releases.
//
// *Thread and process safety*: any thread of any process; threads of one process contend like processes. A fork child is
// another owner.
// *Memory ordering*: what was written before release() is visible after the next acquire. A release is a plain store and a
// light_fence(): one locked step a pair, and none that waits for the stores made under the lock.
// *If a process is killed*: the owner: those who wait find out within one slice (20 ms), at once where somebody has found it dead
// before; a sleeper: nothing; one that was woken and died: its wake-up is lost, the others look again after one slice.
#pragma once

#include <atomic>
#include <cstdint>

#include "mp/memory/family.hpp"
#include "mp/os/clock.hpp"
#include "mp/sync/event_word.hpp"

namespace mp::sync {

enum class Acquired : std::uint8_t { yes, timed_out, owner_died };

class LockWord {
 public:
  bool try_acquire(memory::Tag me) noexcept {
    memory::Tag free = memory::kNobody;
    return word_.compare_exchange_strong(free, me, std::memory_order_acquire, std::memory_order_relaxed);
  }
  Acquired acquire(memory::Tag me, const os::Deadline& deadline) noexcept {
    if (try_acquire(me)) [[likely]]
      return Acquired::yes;
    return acquire_slowly(me, deadline);
  }
  // False if it was free. `back_to`: a dead owner whom the word shall name again.
  bool release(memory::Tag back_to = memory::kNobody) noexcept {
    if (owner() == memory::kNobody) [[unlikely]]
      return false;
    word_.store(back_to, std::memory_order_release);
    freed_.notify_one();
    return true;
  }
  memory::Tag owner() const noexcept { return word_.load(std::memory_order_relaxed); }
  // Takes the lock over from a dead owner: from whom; kNobody if it is free or its owner lives.
  memory::Tag seize(memory::Tag me) noexcept;
  // For those who only look, again and again: whether the owner is dead. Asks the kernel once a slice, and says no meanwhile.
  bool owner_is_gone() const noexcept;

 private:
  Acquired acquire_slowly(memory::Tag me, const os::Deadline& deadline) noexcept;

  std::atomic<memory::Tag> word_{memory::kNobody};
  EventWord freed_;
};
static_assert(sizeof(LockWord) == 8);

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
