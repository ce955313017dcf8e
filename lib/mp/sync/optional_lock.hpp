// The lock that comes with a Value or an Array: an RLock of its own, a given Lock or RLock, or none.
#pragma once

#include <type_traits>
#include <utility>
#include <variant>

#include "mp/sync/lock.hpp"

namespace mp {

struct NoLockTag {};
inline constexpr NoLockTag no_lock{};  // Value<T>(x, mp::no_lock): Python's lock=False, but with the same type

namespace sync {

class OptionalLock {
 public:
  static constexpr bool kLocks = true;
  OptionalLock() : lock_(RLock()) {}
  OptionalLock(RLock lock) noexcept : lock_(std::move(lock)) {}
  OptionalLock(Lock lock) noexcept : lock_(std::move(lock)) {}
  OptionalLock(NoLockTag) noexcept : lock_(NoLockTag()) {}

  OptionalLock& get() {
    if (none()) throw_no_lock();
    return *this;
  }
  bool none() const noexcept { return std::holds_alternative<NoLockTag>(lock_); }
  bool acquire(bool block = true, Timeout timeout = {});
  void release();
  void lock() { acquire(); }
  void unlock() { release(); }
  bool try_lock() { return acquire(false); }
  // As Lock's.
  bool locked() const;
  bool recover() {
    return recover([] {});
  }
  template <class F>
    requires std::is_invocable_v<F&>
  bool recover(F&& repair) {
    if (auto* lock = std::get_if<Lock>(&lock_)) return lock->recover(repair);
    if (auto* rlock = std::get_if<RLock>(&lock_)) return rlock->recover(repair);
    throw_no_lock();
  }

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

 private:
  [[noreturn]] static void throw_no_lock();
  std::variant<RLock, Lock, NoLockTag> lock_;
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
