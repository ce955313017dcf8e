// Lock and RLock: Python's multiprocessing locks, for processes and threads alike, also usable as a std mutex
// (std::lock_guard, unique_lock, scoped_lock). Where they differ from Python's: a dead owner is noticed, and they may travel
// anywhere, not only at a process's start.
//
// *Thread and process safety*: a handle names one lock of the family; copies name the same. Any thread of any process
// that has a handle, under every start method. A Lock may be released by anybody; an RLock belongs to one thread of one
// process, and a fork child is not that process.
// *Memory ordering*: what was written before release() is visible after the next acquire().
// *If a process is killed*: the owner: whoever waits gets OwnerDied within 50 ms, and so does everybody after it, until
// somebody calls recover(); a waiter: nobody notices.
#pragma once

#include <chrono>
#include <memory>
#include <type_traits>

#include "mp/memory/ref.hpp"
#include "mp/os/clock.hpp"

namespace mp {

namespace pickle {
class Reader;
class Writer;
}  // namespace pickle

namespace sync {

class OptionalLock;

// What recover() runs while it holds the lock.
struct Repair {
  void (*run)(void* context) = [](void*) {};
  void* context = nullptr;
  void operator()() const { run(context); }
};

// What both locks share: the std names and the timed forms on top of acquire() and release().
template <class Derived>
class LockNames {
 public:
  void lock() { self().acquire(); }
  bool try_lock() { return self().acquire(false); }
  void unlock() { self().release(); }
  template <class Rep, class Period>
  bool try_lock_for(std::chrono::duration<Rep, Period> d) {
    return self().acquire(true, d);
  }
  template <class Clock, class Duration>
  bool try_lock_until(std::chrono::time_point<Clock, Duration> t) {
    return self().acquire(true, t - Clock::now());
  }
  // After its owner's death: makes the lock usable (free) again. False if there was nothing to recover: it is free, or
  // somebody who lives holds it, another who recovers it, say. With `repair`, that runs first, the lock held; what it
  // throws comes out, the lock then free. Who holds it although its owner died (Condition::wait) keeps it.
  bool recover() { return self().recover_with(Repair()); }
  template <class F>
    requires std::is_invocable_v<F&>
  bool recover(F&& repair) {
    using Callable = std::remove_reference_t<F>;
    return self().recover_with(Repair{[](void* f) { static_cast<void>((*static_cast<Callable*>(f))()); },
                                      const_cast<void*>(static_cast<const void*>(std::addressof(repair)))});
  }
  friend bool operator==(const LockNames&, const LockNames&) noexcept = default;

 private:
  Derived& self() noexcept { return static_cast<Derived&>(*this); }
};

}  // namespace sync

class Lock : public sync::LockNames<Lock> {
 public:
  Lock();  // a new lock, free. Throws SharedMemoryFull.

  // Blocks until the lock is held, at most `timeout`; false if it is not. block = false: only looks. Throws OwnerDied,
  // where it does not block the kernel is asked once in 20 ms.
  bool acquire(bool block = true, Timeout timeout = {});
  // Frees the lock, whoever holds it. Throws ValueError if it is free.
  void release();
  bool locked() const noexcept;
  bool owned() const noexcept;  // by the calling process
  // For Condition: as acquire(), but where it throws OwnerDied the lock is held all the same, so that who gives it up on
  // the way out does right. That makes it the dead owner's again, unless it was recovered meanwhile.
  void acquire_again();

  void mp_pickle(pickle::Writer& out) const;
  static Lock mp_unpickle(pickle::Reader& in);
  friend bool operator==(const Lock&, const Lock&) noexcept = default;

 private:
  friend class sync::LockNames<Lock>;
  friend class sync::OptionalLock;
  explicit Lock(memory::Ref ref) noexcept : ref_(std::move(ref)) {}
  bool recover_with(sync::Repair repair);
  memory::Ref ref_;
};

class RLock : public sync::LockNames<RLock> {
 public:
  RLock();  // a new lock, free. Throws SharedMemoryFull.

  // As Lock; at once, and counted, in the thread that holds it.
  bool acquire(bool block = true, Timeout timeout = {});
  // Throws ValueError in any other thread or process than the owner.
  void release();
  bool locked() const noexcept;
  bool owned() const noexcept;  // by the calling thread

  // For Condition: gives up all levels at once and says how many; and back, see Lock.
  unsigned release_all();
  void acquire_again(unsigned levels);

  void mp_pickle(pickle::Writer& out) const;
  static RLock mp_unpickle(pickle::Reader& in);
  friend bool operator==(const RLock&, const RLock&) noexcept = default;

 private:
  friend class sync::LockNames<RLock>;
  friend class sync::OptionalLock;
  explicit RLock(memory::Ref ref) noexcept : ref_(std::move(ref)) {}
  bool recover_with(sync::Repair repair);
  memory::Ref ref_;
};

}  // namespace mp
