// The critical section of shared structures: internal, never seen by users. A lock whose dead owner is simply replaced,
// since what it protects changes state by single stores and is valid at every instruction.
//
// The word: bits 0-30 the owner's tag (0 = free), bit 31 somebody may sleep.
// Commit points: lock = the compare-exchange that writes the tag; unlock = the exchange that clears it.
//
// *Thread and process safety*: any thread of any process; threads of one process contend like processes. A fork child is
// another owner.
// *Memory ordering*: what was written before unlock() is visible after the next lock().
// *If a process is killed*: the owner: the next to come takes over within one slice of waiting (20 ms) and is told so; a
// sleeper: nothing; one that was woken and died: its wake-up is lost, the others look again after one slice.
#pragma once

#include <atomic>
#include <cstdint>

#include "mp/memory/family.hpp"

namespace mp::sync {

class Mutex {
 public:
  // True if the last owner died inside: its last store may not have been the last it meant to make. Does not throw.
  bool lock() noexcept {
    std::uint32_t now = 0;
    memory::Tag me = memory::self();
    if (word_.compare_exchange_strong(now, me, std::memory_order_acquire, std::memory_order_relaxed)) [[likely]] return false;
    return lock_slowly(me);
  }
  bool try_lock() noexcept {
    std::uint32_t now = 0;
    return word_.compare_exchange_strong(now, memory::self(), std::memory_order_acquire, std::memory_order_relaxed);
  }
  void unlock() noexcept {
    if (word_.exchange(0, std::memory_order_release) & kSleepers) [[unlikely]] wake();
  }

 private:
  static constexpr std::uint32_t kSleepers = 1u << 31;
  bool lock_slowly(memory::Tag me) noexcept;
  void wake() noexcept;

  std::atomic<std::uint32_t> word_{0};
};
static_assert(sizeof(Mutex) == 4);

}  // namespace mp::sync
