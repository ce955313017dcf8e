// Semaphore and BoundedSemaphore, as Python's. Where they differ: a token knows its holder, so that a killed holder's is
// not lost without a word, and the bound is exact.
//
// A release by a process that holds none gives back on behalf of another holder (as threads and processes may pass
// tokens on); where none is outstanding, Semaphore's value rises and BoundedSemaphore's throws. Used for signalling (one side
// only releases, the other only acquires), a token counts as held by its last acquirer until the next release: the
// death of a consumer is reported like that of an owner, which it is, of the item it was at.
//
// *Thread and process safety*: a handle names one semaphore; any thread of any process, under every start method.
// *Memory ordering*: what was written before a release() is visible after the acquire() it allows.
// *If a process is killed*: who holds tokens: an acquirer that finds none gets OwnerDied within 50 ms, until recover()
// returns the tokens of the dead; a waiter: nobody notices.
#pragma once

#include "mp/memory/ref.hpp"
#include "mp/os/clock.hpp"

namespace mp {

namespace pickle {
class Reader;
class Writer;
}  // namespace pickle

class Semaphore {
 public:
  explicit Semaphore(std::uint32_t value = 1) : Semaphore(value, false) {}

  // Takes a token; blocks until there is one, at most `timeout`; false if there was none. Throws OwnerDied.
  bool acquire(bool block = true, Timeout timeout = {});
  // Gives `n` tokens back. Throws ValueError (BoundedSemaphore) where that would be more than there were at first.
  void release(std::uint32_t n = 1);
  std::uint32_t get_value() const;
  bool locked() const { return get_value() == 0; }
  // Returns the tokens of dead holders; false if there were none.
  bool recover();

  void lock() { acquire(); }
  bool try_lock() { return acquire(false); }
  void unlock() { release(); }

  void mp_pickle(pickle::Writer& out) const;
  static Semaphore mp_unpickle(pickle::Reader& in);
  friend bool operator==(const Semaphore&, const Semaphore&) noexcept = default;

 protected:
  Semaphore(std::uint32_t value, bool bounded);
  explicit Semaphore(memory::Ref ref) noexcept : ref_(std::move(ref)) {}

 private:
  memory::Ref ref_;
};

class BoundedSemaphore : public Semaphore {
 public:
  explicit BoundedSemaphore(std::uint32_t value = 1) : Semaphore(value, true) {}
  static BoundedSemaphore mp_unpickle(pickle::Reader& in);

 private:
  explicit BoundedSemaphore(Semaphore handle) noexcept : Semaphore(std::move(handle)) {}
};

}  // namespace mp
