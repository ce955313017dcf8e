#include "mp/sync/condition.hpp"

#include <mutex>

#include "mp/errors.hpp"
#include "mp/os/futex.hpp"
#include "mp/pickle/handle.hpp"
#include "mp/sync/mutex.hpp"

namespace mp {
namespace {

using memory::Kind;

enum Waiting : std::uint32_t { kFree, kWaiting, kChosen };

// One who waits. `state` is a futex word: free -> waiting and chosen -> free by the waiter, waiting -> chosen by a notifier, all
// under the mutex.
struct Waiter {
  std::atomic<std::uint32_t> state{kFree};
  memory::Tag owner = memory::kNobody;
  std::uint64_t turn = 0;
};

// Waiters never move: some lie inside, more in a chain of blocks that only grows.
struct Block {
  static constexpr std::size_t kWaiters = 15;
  std::atomic<memory::Offset> next{0};
  Waiter waiters[kWaiters];
};

struct State {
  sync::Mutex mutex;
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

// A place for the caller. Places of the dead are free again; a wake-up that one of them was given is passed on.
Waiter& enter(State& s) {
  Waiter* place = nullptr;
  each(s, [&](Waiter& w) {
    if (!place && w.state.load(std::memory_order_relaxed) == kFree) place = &w;
  });
  if (!place) {
    memory::Offset fresh = memory::allocate(sizeof(Block));
    Block& block = *new (memory::at<void>(fresh)) Block;
    block.next.store(s.first.next.load(std::memory_order_relaxed), std::memory_order_relaxed);
    s.first.next.store(fresh, std::memory_order_release);
    place = &block.waiters[0];
  }
  place->owner = memory::self();
  place->turn = ++s.turns;
  place->state.store(kWaiting, std::memory_order_release);
  return *place;
}

// Chooses the `n` that have waited longest and live. Caller holds the mutex.
void choose(State& s, unsigned n) {
  for (; n > 0; --n) {
    for (;;) {
      Waiter* oldest = nullptr;
      each(s, [&](Waiter& w) {
        if (w.state.load(std::memory_order_relaxed) == kWaiting && (!oldest || w.turn < oldest->turn)) oldest = &w;
      });
      if (!oldest) return;
      if (oldest->owner != memory::self() && !memory::alive(oldest->owner)) {
        oldest->state.store(kFree, std::memory_order_release);
        continue;
      }
      oldest->state.store(kChosen, std::memory_order_release);
      os::futex_wake(oldest->state, 1);
      break;
    }
  }
}

// Wake-ups that the dead had been given go to others. Caller holds the mutex.
void pass_on(State& s) {
  unsigned lost = 0;
  each(s, [&](Waiter& w) {
    std::uint32_t state = w.state.load(std::memory_order_relaxed);
    if (state == kFree || w.owner == memory::self() || memory::alive(w.owner)) return;
    lost += state == kChosen;
    w.state.store(kFree, std::memory_order_release);
  });
  choose(s, lost);
}

void destroy(void* object) noexcept {
  State& s = *static_cast<State*>(object);
  for (memory::Offset at = s.first.next.load(std::memory_order_acquire); at;) {
    memory::Offset after = memory::at<Block>(at)->next.load(std::memory_order_relaxed);
    memory::deallocate(at);
    at = after;
  }
}
const bool known [[maybe_unused]] = memory::set_destroyer(Kind::condition, destroy);

}  // namespace

Condition::Condition(Lock lock) : ref_(memory::create<State>(Kind::condition, 0, 0)), lock_(std::move(lock)) {}
Condition::Condition(RLock lock) : ref_(memory::create<State>(Kind::condition, 0, 0)), lock_(std::move(lock)) {}

bool Condition::acquire(bool block, Timeout timeout) {
  return std::visit([&](auto& lock) { return lock.acquire(block, timeout); }, lock_);
}
void Condition::release() {
  std::visit([](auto& lock) { lock.release(); }, lock_);
}

void Condition::check_held() const {
  const RLock* rlock = std::get_if<RLock>(&lock_);
  if (rlock ? !rlock->owned() : !std::get<Lock>(lock_).locked())
    throw ValueError("a condition is waited for and notified with its lock held");
}

bool Condition::wait(Timeout timeout) {
  check_held();
  State& s = ref_.as<State>();
  os::Deadline deadline(timeout);
  Waiter* me;
  {
    std::lock_guard guard(s.mutex);
    me = &enter(s);
  }
  RLock* rlock = std::get_if<RLock>(&lock_);
  unsigned levels = 1;
  if (rlock) levels = rlock->release_all();
  else std::get<Lock>(lock_).release();

  while (me->state.load(std::memory_order_acquire) == kWaiting && !deadline.passed()) {
    if (os::futex_wait(me->state, kWaiting, deadline.next(os::kSlice)) != os::Woken::timed_out) continue;
    std::lock_guard guard(s.mutex);
    pass_on(s);
  }
  bool notified;
  {
    std::lock_guard guard(s.mutex);
    notified = me->state.load(std::memory_order_relaxed) == kChosen;
    me->state.store(kFree, std::memory_order_release);
  }
  if (rlock) rlock->acquire_again(levels);
  else std::get<Lock>(lock_).acquire();
  return notified;
}

void Condition::notify(unsigned n) {
  check_held();
  State& s = ref_.as<State>();
  std::lock_guard guard(s.mutex);
  choose(s, n);
}

void Condition::notify_all() { notify(~0u); }

void Condition::mp_pickle(pickle::Writer& out) const {
  pickle::dump_ref(out, ref_);
  out.put(static_cast<std::uint8_t>(lock_.index()));
  std::visit([&](const auto& lock) { lock.mp_pickle(out); }, lock_);
}

Condition Condition::mp_unpickle(pickle::Reader& in) {
  memory::Ref ref = pickle::load_ref(in, Kind::condition);
  if (in.get<std::uint8_t>("kind of lock") == 0) return Condition(std::move(ref), Lock::mp_unpickle(in));
  return Condition(std::move(ref), RLock::mp_unpickle(in));
}

}  // namespace mp
