// A lock of whichever kind: what guards a Value or an Array (an RLock of its own, a given Lock or RLock, or none), and what a
// Condition gives up while it waits.
#pragma once

#include <utility>

#include "mp/sync/lock.hpp"

namespace mp {

struct NoLockTag {};
inline constexpr NoLockTag no_lock{};  // Value<T>(x, mp::no_lock): Python's lock=False, but with the same type

namespace sync {

// As the lock it has; where it has none, every use throws ValueError.
class OptionalLock : public LockNames<OptionalLock> {
 public:
  static constexpr bool kLocks = true;
  OptionalLock() : OptionalLock(RLock()) {}
  OptionalLock(RLock lock) noexcept : rlock_(std::move(lock)) {}
  OptionalLock(Lock lock) noexcept : lock_(std::move(lock)) {}
  OptionalLock(NoLockTag) noexcept {}

  OptionalLock& get() {
    if (none()) throw_no_lock();
    return *this;
  }
  bool none() const noexcept { return !lock_.ref_ && !rlock_.ref_; }
  bool acquire(bool block = true, Timeout timeout = {});
  void release();
  bool locked() const;
  bool owned() const;  // by the caller: the process for a Lock, the thread for an RLock

  // For Condition: see RLock and Lock.
  unsigned release_all();
  void acquire_again(unsigned levels);

  // Held for a moment; nothing where there is no lock.
  class Guard {
   public:
    explicit Guard(OptionalLock& lock) : lock_(lock) {
      if (!lock_.none()) lock_.acquire();
    }
    ~Guard() {
      if (!lock_.none()) lock_.release();
    }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    OptionalLock& lock_;
  };
  Guard guard() { return Guard(*this); }

  void mp_pickle(pickle::Writer& out) const;
  static OptionalLock mp_unpickle(pickle::Reader& in);
  friend bool operator==(const OptionalLock&, const OptionalLock&) noexcept = default;

 private:
  friend class LockNames<OptionalLock>;
  bool recover_with(Repair repair);
  [[noreturn]] static void throw_no_lock();
  // At most one of them names a lock.
  Lock lock_{memory::Ref()};
  RLock rlock_{memory::Ref()};
};

// No lock at all: RawValue, RawArray.
struct NoLock {
  static constexpr bool kLocks = false;
  struct Guard {
    ~Guard() {}
  };
  Guard guard() const noexcept { return {}; }
  void mp_pickle(pickle::Writer&) const noexcept {}
  static NoLock mp_unpickle(pickle::Reader&) noexcept { return {}; }
};

}  // namespace sync
}  // namespace mp
