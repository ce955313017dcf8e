// Semaphore and BoundedSemaphore, as Python's. Where they differ: a token knows its holder, so that a killed holder's is
// not lost without a word, and the bound is exact.
//
// A release by a process that holds none gives back on behalf of another holder, since tokens may be passed on; where none is
// outstanding, Semaphore's value rises and BoundedSemaphore throws.
//
// A Semaphore made with value 0 is a signal: one side only releases, the other only acquires. Its tokens have no holder, a death means
// nothing to it (who is killed after acquiring has taken that signal along, as if it had read it from a pipe), and its
// release() may be called in a signal handler. One made with more is a stock: every acquirer holds what it took until it, or
// somebody for it, releases. So where a producer counts free places with one semaphore and a consumer gives them back, a
// killed producer is reported to who waits for a place although its items may still be fetched: use a Queue there.
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
  static constexpr std::uint32_t kMaxValue = 0x7fffffff;

  // Throws ValueError for a value above kMaxValue, SharedMemoryFull.
  explicit Semaphore(std::uint32_t value = 1) : Semaphore(value, false) {}

  // Takes a token; blocks until there is one, at most `timeout`; false if there was none. Throws OwnerDied, and
  // SharedMemoryFull where there is no room to note a further holder.
  bool acquire(bool block = true, Timeout timeout = {});
  // Gives `n` tokens back, all at once. Throws ValueError for n = 0, and where the value would exceed its bound:
  // kMaxValue, BoundedSemaphore's what it was made with.
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
  Semaphore(pickle::Reader& in, bool bounded);

 private:
  memory::Ref ref_;
};

class BoundedSemaphore : public Semaphore {
 public:
  explicit BoundedSemaphore(std::uint32_t value = 1) : Semaphore(value, true) {}
  static BoundedSemaphore mp_unpickle(pickle::Reader& in);

 private:
  explicit BoundedSemaphore(pickle::Reader& in) : Semaphore(in, true) {}
};

}  // namespace mp
