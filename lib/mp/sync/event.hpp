// Event, as Python's: a flag to wait for. Where it differs: set() never waits for the woken and may be called in a
// signal handler, and who was woken by a set() is told so even if clear() followed at once.
//
// *Thread and process safety*: a handle names one event; any thread of any process, under every start method.
// *Memory ordering*: what was written before set() is visible after the wait() or is_set() that saw it.
// *If a process is killed*: a waiter: nobody notices; a setter: the flag is set or not, and waiters see it within 20 ms.
#pragma once

#include "mp/memory/ref.hpp"
#include "mp/os/clock.hpp"

namespace mp {

namespace pickle {
class Reader;
class Writer;
}  // namespace pickle

class Event {
 public:
  Event();
  bool is_set() const noexcept;
  void set() noexcept;  // async-signal-safe
  void clear() noexcept;
  // Blocks until the flag is set, at most `timeout`; whether it was.
  bool wait(Timeout timeout = {}) const;

  void mp_pickle(pickle::Writer& out) const;
  static Event mp_unpickle(pickle::Reader& in);
  friend bool operator==(const Event&, const Event&) noexcept = default;

 private:
  explicit Event(memory::Ref ref) noexcept : ref_(std::move(ref)) {}
  memory::Ref ref_;
};

}  // namespace mp
