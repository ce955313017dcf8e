// The critical section of shared structures: internal, never seen by users. A lock whose dead owner is simply replaced,
// since what it protects changes state by single stores and is valid at every instruction.
//
// *Thread and process safety*, *Memory ordering*: those of LockWord.
// *If a process is killed*: the owner: the next to come takes over within one slice of waiting (20 ms) and is told so; a
// waiter: nothing.
#pragma once

#include "mp/sync/lock_word.hpp"

namespace mp::sync {

class Mutex {
 public:
  // True if the last owner died inside: its last store may not have been the last it meant to make. Does not throw.
  bool lock() noexcept {
    memory::Tag me = memory::self();
    if (word_.try_acquire(me)) [[likely]]
      return false;
    return lock_slowly(me);
  }
  // The same for who has slept a slice in vain elsewhere: asks first whether the owner lives, so as not to sleep another for that.
  bool lock_in_doubt() noexcept {
    word_.owner_is_gone();
    return lock();
  }
  bool try_lock() noexcept { return word_.try_acquire(memory::self()); }
  void unlock() noexcept { word_.release(); }

 private:
  bool lock_slowly(memory::Tag me) noexcept;

  LockWord word_;
};
static_assert(sizeof(Mutex) == 8);

}  // namespace mp::sync
