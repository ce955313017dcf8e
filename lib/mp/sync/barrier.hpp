// Barrier, as Python's: so many parties wait for each other, again and again. Where it differs: the action is kept in the
// barrier itself, in the form in which callables are sent, so it runs whichever process comes last; and a party that is
// killed while it waits breaks the barrier instead of hanging the others.
//
// *Thread and process safety*: a handle names one barrier; any thread of any process, under every start method.
// *Memory ordering*: what each party wrote before wait() is visible to all after it.
// *If a process is killed*: while it waits (or runs the action): the others get BrokenBarrierError within 50 ms.
#pragma once

#include <type_traits>
#include <utility>

#include "mp/memory/ref.hpp"
#include "mp/os/clock.hpp"
#include "mp/pickle/callable.hpp"

namespace mp {

class Barrier {
 public:
  // `timeout` holds for every wait() that names none. Throws ValueError for no parties or more than 65535.
  explicit Barrier(unsigned parties, Timeout timeout = {});
  // `action()` is run by the last to come, before the others go on; what it throws breaks the barrier.
  template <class F>
    requires std::is_invocable_v<std::decay_t<F>&>
  Barrier(unsigned parties, const F& action, Timeout timeout = {}) : Barrier(parties, timeout) {
    pickle::Writer out;
    pickle::dump_callable(out, action);
    set_action(pickle::code_ref(&run_action<std::decay_t<F>>), out);
  }

  // Blocks until all parties have come; a number of 0 to parties - 1 that is each one's own. Throws BrokenBarrierError:
  // the time was over, for this party or another, or reset(), abort(), a death, an action that threw.
  unsigned wait();
  unsigned wait(Timeout timeout);
  void reset();  // those that wait get BrokenBarrierError, then it is as new
  void abort();  // breaks it until reset()
  unsigned parties() const noexcept;
  unsigned n_waiting() const noexcept;
  bool broken() const noexcept;

  void mp_pickle(pickle::Writer& out) const;
  static Barrier mp_unpickle(pickle::Reader& in);
  friend bool operator==(const Barrier&, const Barrier&) noexcept = default;

 private:
  template <class F>
  static void run_action(pickle::Reader& in) {
    F f = pickle::load_called<F>(in);
    f();
  }
  explicit Barrier(memory::Ref ref) noexcept : ref_(std::move(ref)) {}
  void set_action(pickle::CodeRef code, pickle::Writer& state);
  memory::Ref ref_;
};

}  // namespace mp
