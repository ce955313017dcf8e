#include "mp/sync/semaphore.hpp"

#include <mutex>

#include "mp/errors.hpp"
#include "mp/pickle/handle.hpp"
#include "mp/sync/event_word.hpp"
#include "mp/sync/ledger.hpp"
#include "mp/sync/lock_word.hpp"
#include "mp/sync/mutex.hpp"

namespace mp {
namespace {

using memory::Kind;

// Invariants, under `mutex`:
//  1. value = capacity - sum of the ledger >= 0. The ledger is the truth: its one store is the commit point.
//  2. `taken` is that sum, counted anew by whoever takes the mutex over from a dead owner.
struct State {
  State(std::uint32_t value, bool is_bounded) noexcept : bounded(is_bounded), capacity(value) {}
  sync::Mutex mutex;
  const bool bounded;
  std::uint64_t capacity;
  std::uint64_t taken = 0;
  sync::EventWord changed;
  sync::Ledger holders;

  void lock() noexcept {
    if (mutex.lock()) taken = holders.sum();
  }
  void unlock() noexcept { mutex.unlock(); }
};

void destroy(void* object) noexcept { static_cast<State*>(object)->holders.free_blocks(); }
const bool known [[maybe_unused]] = memory::set_destroyer(Kind::semaphore, destroy);

bool try_take(State& s) {
  std::lock_guard guard(s);
  if (s.taken >= s.capacity) return false;
  s.holders.add(memory::self());
  ++s.taken;
  return true;
}

}  // namespace

Semaphore::Semaphore(std::uint32_t value, bool bounded) : ref_(memory::create<State>(Kind::semaphore, bounded, 0, value, bounded)) {}

bool Semaphore::acquire(bool block, Timeout timeout) {
  State& s = ref_.as<State>();
  if (try_take(s)) return true;
  if (!block) return false;
  os::Deadline deadline(timeout);
  for (;;) {
    std::uint32_t seen = s.changed.prepare();
    if (try_take(s)) return true;
    if (s.changed.wait(seen, deadline) != os::Woken::timed_out) continue;
    if (try_take(s)) return true;
    if (memory::Tag dead = s.holders.dead_holder()) sync::throw_owner_died("Semaphore", dead);
    if (deadline.passed()) return false;
  }
}

void Semaphore::release(std::uint32_t n) {
  if (n == 0) throw ValueError("a semaphore is released by one or more, not by 0");
  State& s = ref_.as<State>();
  {
    std::lock_guard guard(s);
    if (s.bounded && n > s.taken) throw ValueError("semaphore or lock released too many times");
    std::uint32_t back = s.holders.take(memory::self(), n);
    if (back < n) back += s.holders.take_any(n - back);
    s.taken -= back;
    s.capacity += n - back;
  }
  if (n == 1) s.changed.notify_one();
  else s.changed.notify_all();
}

std::uint32_t Semaphore::get_value() const {
  State& s = ref_.as<State>();
  std::lock_guard guard(s);
  return static_cast<std::uint32_t>(s.capacity - s.taken);
}

bool Semaphore::recover() {
  State& s = ref_.as<State>();
  std::uint64_t back;
  {
    std::lock_guard guard(s);
    back = s.holders.drop_dead();
    s.taken = s.holders.sum();
  }
  if (back) s.changed.notify_all();
  return back > 0;
}

void Semaphore::mp_pickle(pickle::Writer& out) const { pickle::dump_ref(out, ref_); }
Semaphore Semaphore::mp_unpickle(pickle::Reader& in) { return Semaphore(pickle::load_ref(in, Kind::semaphore)); }
BoundedSemaphore BoundedSemaphore::mp_unpickle(pickle::Reader& in) { return BoundedSemaphore(Semaphore::mp_unpickle(in)); }

}  // namespace mp
