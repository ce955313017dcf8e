#include "mp/sync/condition.hpp"

#include <mutex>

#include "mp/errors.hpp"
#include "mp/os/futex.hpp"
#include "mp/os/spin.hpp"
#include "mp/pickle/handle.hpp"
#include "mp/sync/mutex.hpp"
#include "mp/sync/patrol.hpp"

namespace mp {
namespace {

using memory::Kind;

enum Waiting : std::uint32_t { kFree, kAwake, kAsleep, kChosen };

// One who waits. Its place's `state` is a futex word:
//   free -> awake by the waiter, under the mutex; awake -> asleep -> awake by the waiter; awake or asleep -> chosen by a notifier, under the
//   mutex; any -> free by the waiter as it leaves, or under the mutex when its owner is dead.
struct Waiter {
  std::atomic<std::uint32_t> state{kFree};
  memory::Tag owner = memory::kNobody;
  std::uint64_t turn = 0;  // when it came; once chosen: the last that had come when it was

  bool waits() const noexcept {
    auto now = state.load(std::memory_order_relaxed);
    return now == kAwake || now == kAsleep;
  }
};
static_assert(sizeof(Waiter) == 16);

// Places never move: some lie inside, more in a chain of blocks that only grows.
struct Block {
  static constexpr std::size_t kWaiters = 15;
  std::atomic<memory::Offset> next{0};
  std::uint64_t unused = 0;
  Waiter waiters[kWaiters];
};
static_assert(sizeof(Block) == 256);

// Invariants, under `mutex`:
//  1. A place is somebody's from the store of `awake` (which comes after owner and turn) to the store of `free`.
//  2. A wake-up is in exactly one place that is `chosen` until its owner leaves; if that is dead, it is passed on to one
//     who had come before the notification, by whoever of the waiting goes on patrol first.
struct State {
  sync::Mutex mutex;
  sync::Patrol patrol;
  std::uint64_t turns = 0;
  Block first;
};

template <class F>
void each(State& s, F&& f) {
  for (Block* block = &s.first;;) {
    for (Waiter& w : block->waiters) f(w);
    memory::Offset next = block->next.load(std::memory_order_acquire);
    if (!next) return;
    block = memory::at<Block>(next);
  }
}

// A place for the caller.
Waiter& enter(State& s) {
  std::lock_guard guard(s.mutex);
  Waiter* place = nullptr;
  each(s, [&](Waiter& w) {
    if (!place && w.state.load(std::memory_order_relaxed) == kFree) place = &w;
  });
  if (!place) {
    memory::NewBlock fresh(sizeof(Block));
    Block& block = *new (memory::at<void>(fresh.offset())) Block;
    block.next.store(s.first.next.load(std::memory_order_relaxed), std::memory_order_relaxed);
    s.first.next.store(fresh.hand_out(), std::memory_order_release);
    place = &block.waiters[0];
  }
  place->owner = memory::self();
  place->turn = ++s.turns;
  place->state.store(kAwake, std::memory_order_release);
  return *place;
}

// False if it left meanwhile. Caller holds the mutex.
bool give(State& s, Waiter& w) noexcept {
  std::uint64_t came = w.turn;
  w.turn = s.turns;
  for (std::uint32_t now = w.state.load(std::memory_order_relaxed); now == kAwake || now == kAsleep;) {
    if (!w.state.compare_exchange_weak(now, kChosen, std::memory_order_acq_rel, std::memory_order_relaxed)) continue;
    if (now == kAsleep) os::futex_wake(w.state, 1);
    return true;
  }
  w.turn = came;
  return false;
}

// Wakes the `n` that have waited longest, of those that had come by `bound`. Caller holds the mutex.
void choose(State& s, unsigned n, std::uint64_t bound) noexcept {
  while (n > 0) {
    Waiter* oldest = nullptr;
    each(s, [&](Waiter& w) {
      if (w.waits() && w.turn <= bound && (!oldest || w.turn < oldest->turn)) oldest = &w;
    });
    if (!oldest) return;
    if (memory::found_dead(oldest->owner)) oldest->state.store(kFree, std::memory_order_release);
    else if (give(s, *oldest)) --n;
  }
}

// Frees the places of the dead and passes on the wake-ups they had been given.
void bury(State& s) noexcept {
  s.mutex.lock_in_doubt();
  std::lock_guard guard(s.mutex, std::adopt_lock);
  each(s, [&](Waiter& w) {
    std::uint32_t state = w.state.load(std::memory_order_relaxed);
    if (state == kFree || memory::alive(w.owner)) return;
    std::uint64_t bound = w.turn;
    w.state.store(kFree, std::memory_order_release);
    if (state == kChosen) choose(s, 1, bound);
  });
}

// Until chosen or the deadline.
void await(State& s, Waiter& place, const os::Deadline& deadline) noexcept {
  static thread_local os::Spinner spin;
  auto chosen = [&] { return place.state.load(std::memory_order_acquire) == kChosen; };
  if (!deadline.passed() && !spin(chosen)) {
    while (!chosen() && !deadline.passed()) {
      std::uint32_t awake = kAwake;
      place.state.compare_exchange_strong(awake, kAsleep, std::memory_order_acq_rel, std::memory_order_relaxed);
      os::Woken woken = os::futex_wait(place.state, kAsleep, deadline.next(os::kSlice));
      if ((woken == os::Woken::timed_out || woken == os::Woken::interrupted) && s.patrol.due()) bury(s);
    }
  }
}

// Whether it was chosen.
bool leave(Waiter& place) noexcept { return place.state.exchange(kFree, std::memory_order_acq_rel) == kChosen; }

void destroy(void* object) noexcept {
  State& s = *static_cast<State*>(object);
  while (memory::Offset at = s.first.next.load(std::memory_order_acquire)) {
    s.first.next.store(memory::at<Block>(at)->next.load(std::memory_order_relaxed), std::memory_order_release);
    memory::deallocate(at);
  }
}
const bool known [[maybe_unused]] = memory::set_destroyer(Kind::condition, destroy, alignof(State));

}  // namespace

Condition::Condition(Lock lock) : ref_(memory::create<State>(Kind::condition, 0, 0)), lock_(std::move(lock)) {}
Condition::Condition(RLock lock) : ref_(memory::create<State>(Kind::condition, 0, 0)), lock_(std::move(lock)) {}

void Condition::check_held() const {
  if (!lock_.owned()) throw ValueError("a condition is waited for and notified with its lock held");
}

bool Condition::wait(Timeout timeout) {
  check_held();
  State& s = ref_.as<State>();
  os::Deadline deadline(timeout);
  Waiter& place = enter(s);
  unsigned levels = lock_.release_all();

  await(s, place, deadline);
  // Left only with the lock held: who is killed before that has not used the wake-up that it was given.
  try {
    lock_.acquire_again(levels);
  } catch (...) {
    leave(place);
    throw;
  }
  return leave(place);
}

void Condition::notify(unsigned n) {
  check_held();
  State& s = ref_.as<State>();
  std::lock_guard guard(s.mutex);
  choose(s, n, s.turns);
}

void Condition::notify_all() {
  check_held();
  State& s = ref_.as<State>();
  std::lock_guard guard(s.mutex);
  each(s, [&](Waiter& w) { give(s, w); });
}

void Condition::mp_pickle(pickle::Writer& out) const {
  pickle::dump_ref(out, ref_);
  lock_.mp_pickle(out);
}

Condition Condition::mp_unpickle(pickle::Reader& in) {
  memory::Ref ref = pickle::load_ref<State>(in, Kind::condition);
  auto lock = sync::OptionalLock::mp_unpickle(in);
  if (lock.none()) pickle::malformed("condition", "it has no lock");
  return Condition(std::move(ref), std::move(lock));
}

}  // namespace mp
