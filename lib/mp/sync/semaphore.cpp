#include "mp/sync/semaphore.hpp"

#include <mutex>
#include <string>

#include "mp/errors.hpp"
#include "mp/os/spin.hpp"
#include "mp/pickle/handle.hpp"
#include "mp/sync/event_word.hpp"
#include "mp/sync/ledger.hpp"
#include "mp/sync/lock_word.hpp"
#include "mp/sync/mutex.hpp"
#include "mp/sync/patrol.hpp"

namespace mp {
namespace {

using memory::Kind;

constexpr std::uint64_t kPlain = 1, kBounded = 2;  // the header's type

// Invariants:
//  1. Of a signal, `value` is all there is; each change is one compare-exchange.
//  2. Of a stock, under `mutex`: value = capacity - sum of the ledger. The ledger and `capacity` are the truth, and what
//     changes them the commit points; `value` is counted anew by whoever takes the mutex over from a dead owner.
//  3. A process killed inside release(n) may have given fewer than n back: the rest is still in its name.
struct State {
  State(std::uint32_t n, bool is_bounded) noexcept
      : bounded(is_bounded),
        signal(n == 0 && !is_bounded),
        capacity(n),
        value(n) {}
  sync::Mutex mutex;
  const bool bounded, signal;
  std::uint32_t capacity;
  std::atomic<std::uint32_t> value;
  sync::EventWord changed;
  sync::Patrol patrol;
  sync::Ledger holders;

  void lock() noexcept {
    if (mutex.lock()) recount();
  }
  void unlock() noexcept { mutex.unlock(); }
  void recount() noexcept {
    value.store(capacity - static_cast<std::uint32_t>(holders.sum()), std::memory_order_release);
  }
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

void destroy(void* object) noexcept { static_cast<State*>(object)->holders.free_blocks(); }
const bool known [[maybe_unused]] = memory::set_destroyer(Kind::semaphore, destroy, alignof(State));

bool try_take(State& s) {
  std::uint32_t now = s.value.load(std::memory_order_acquire);
  if (s.signal) {
    while (now > 0)
      if (s.value.compare_exchange_weak(now, now - 1, std::memory_order_acquire, std::memory_order_acquire))
        return true;
    return false;
  }
  if (now == 0) return false;
  std::lock_guard guard(s);
  now = s.value.load(std::memory_order_relaxed);
  if (now == 0) return false;
  s.holders.add(memory::self());
  s.value.store(now - 1, std::memory_order_relaxed);
  return true;
}

// Throws OwnerDied if somebody has found one dead who holds tokens.
void tell_of_the_dead(State& s) {
  if (s.signal) return;
  const memory::Tag dead = s.holders.found_dead_holder();
  if (dead != memory::kNobody) sync::throw_owner_died(s.bounded ? "BoundedSemaphore" : "Semaphore", dead);
}

// For who has waited in vain: the same, after asking whether they live.
void check_holders(State& s) {
  if (s.signal) return;
  if (s.patrol.due()) {
    if (s.mutex.lock_in_doubt()) s.recount();  // a death inside may have left `value` behind
    s.unlock();
    s.holders.dead_holder();
  }
  tell_of_the_dead(s);
}

void give_back(State& s, std::uint32_t n) {
  std::lock_guard guard(s);
  std::uint32_t now = s.value.load(std::memory_order_relaxed), taken = s.capacity - now;
  if (s.bounded ? n > taken : n > Semaphore::kMaxValue - now)
    throw ValueError("semaphore or lock released too many times");
  std::uint32_t back = s.holders.take(memory::self(), n);
  if (back < n) back += s.holders.take_any(n - back);
  s.capacity += n - back;
  s.value.store(now + n, std::memory_order_release);
}

}  // namespace

Semaphore::Semaphore(std::uint32_t value, bool bounded) {
  if (value > kMaxValue) throw ValueError("a semaphore's value is at most 2147483647, not " + std::to_string(value));
  ref_ = memory::create<State>(Kind::semaphore, bounded ? kBounded : kPlain, 0, value, bounded);
}

bool Semaphore::acquire(bool block, Timeout timeout) {
  static thread_local os::Spinner spin;
  State& s = ref_.as<State>();
  if (try_take(s)) return true;
  os::Deadline deadline(timeout);
  auto give_up = [&] {
    check_holders(s);
    return false;
  };
  if (!block || deadline.passed()) return give_up();
  if (spin([&] { return s.value.load(std::memory_order_relaxed) > 0; }) && try_take(s)) return true;
  for (;;) {
    std::uint32_t seen = s.changed.prepare();
    if (try_take(s)) return true;
    if (deadline.passed()) return give_up();
    tell_of_the_dead(s);
    os::Woken woken = s.changed.wait(seen, deadline);
    if (woken == os::Woken::woken || woken == os::Woken::changed) continue;
    if (try_take(s)) return true;
    check_holders(s);
  }
}

void Semaphore::release(std::uint32_t n) {
  if (n == 0) throw ValueError("a semaphore is released by one or more, not by 0");
  State& s = ref_.as<State>();
  if (s.signal) {
    std::uint32_t now = s.value.load(std::memory_order_relaxed);
    do {
      if (n > kMaxValue - now) throw ValueError("semaphore or lock released too many times");
    } while (!s.value.compare_exchange_weak(now, now + n, std::memory_order_release, std::memory_order_relaxed));
  } else {
    give_back(s, n);
  }
  if (n == 1) s.changed.notify_one();
  else s.changed.notify_all();
}

std::uint32_t Semaphore::get_value() const { return ref_.as<State>().value.load(std::memory_order_acquire); }

bool Semaphore::recover() {
  State& s = ref_.as<State>();
  std::uint64_t back = 0;
  if (!s.signal) {
    std::lock_guard guard(s);
    back = s.holders.drop_dead();
    s.recount();
  }
  if (back) s.changed.notify_all();
  return back > 0;
}

Semaphore::Semaphore(pickle::Reader& in, bool bounded)
    : ref_(pickle::load_ref<State>(in, Kind::semaphore, bounded ? kBounded : 0)) {}

void Semaphore::mp_pickle(pickle::Writer& out) const { pickle::dump_ref(out, ref_); }
Semaphore Semaphore::mp_unpickle(pickle::Reader& in) { return Semaphore(in, false); }
BoundedSemaphore BoundedSemaphore::mp_unpickle(pickle::Reader& in) { return BoundedSemaphore(in); }

}  // namespace mp
