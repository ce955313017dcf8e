// Condition, as Python's: waiting, with a lock given up meanwhile, until somebody notifies. Where it differs: notify never
// waits for the woken, and a dead waiter neither keeps a wake-up nor hangs anybody.
//
// *Thread and process safety*: a handle names one condition and its lock; any thread of any process that holds the lock.
// *Memory ordering*: the lock's.
// *If a process is killed*: a waiter: a wake-up that was meant for it goes to another within 50 ms; a notifier: waiters it had
// already chosen wake; the holder of the lock: see Lock, also out of wait() when it takes the lock again.
#pragma once

#include "mp/sync/optional_lock.hpp"

namespace mp {

class Condition {
 public:
  Condition() : Condition(RLock()) {}
  explicit Condition(Lock lock);
  explicit Condition(RLock lock);

  bool acquire(bool block = true, Timeout timeout = {}) { return lock_.acquire(block, timeout); }
  void release() { lock_.release(); }
  void lock() { acquire(); }
  bool try_lock() { return acquire(false); }
  void unlock() { release(); }
  // As the lock's.
  bool recover() { return lock_.recover(); }
  template <class F>
    requires std::is_invocable_v<F&>
  bool recover(F&& repair) {
    return lock_.recover(std::forward<F>(repair));
  }

  // Gives the lock up (all levels of an RLock), blocks until notified, at most `timeout`, takes the lock again; whether
  // it was notified. Throws ValueError where the caller does not hold the lock; OwnerDied, the lock then held so that
  // guards stay right: recover() it before it is released, or it is the dead owner's again.
  bool wait(Timeout timeout = {});
  // Until predicate() is true; its last value.
  template <class Predicate>
  bool wait_for(Predicate predicate, Timeout timeout = {}) {
    os::Deadline deadline(timeout);
    while (!predicate()) {
      if (deadline.never()) {
        wait();
      } else if (deadline.passed() || !wait(deadline.next(std::chrono::nanoseconds::max()))) {
        return predicate();
      }
    }
    return true;
  }
  // Wakes `n` of those that wait, longest first. Does not block. Throws ValueError where the caller does not hold the lock.
  void notify(unsigned n = 1);
  void notify_all();

  void mp_pickle(pickle::Writer& out) const;
  static Condition mp_unpickle(pickle::Reader& in);
  friend bool operator==(const Condition&, const Condition&) noexcept = default;

 private:
  Condition(memory::Ref ref, sync::OptionalLock lock) noexcept : ref_(std::move(ref)), lock_(std::move(lock)) {}
  void check_held() const;
  memory::Ref ref_;
  sync::OptionalLock lock_;  // never without
};

}  // namespace mp
