#include "mp/sync/lock.hpp"

#include "mp/errors.hpp"
#include "mp/pickle/handle.hpp"
#include "mp/sync/lock_word.hpp"

namespace mp {
namespace {

using memory::Kind;

// `thread` and `levels` are written by the owner alone, and mean something only while the word names it.
struct RLockState {
  sync::LockWord word;
  std::atomic<std::uint32_t> thread{0};
  std::uint32_t levels = 0;

  bool mine(memory::Tag me) const noexcept {
    return word.owner() == me && thread.load(std::memory_order_relaxed) == sync::this_thread();
  }
};
static_assert(sizeof(RLockState) == 12);

// True, false or OwnerDied.
bool take(sync::LockWord& word, memory::Tag me, bool block, Timeout timeout, const char* what) {
  if (word.try_acquire(me)) return true;
  if (!block) return false;
  switch (word.acquire(me, os::Deadline(timeout))) {
    case sync::Acquired::yes: return true;
    case sync::Acquired::timed_out: return false;
    default: sync::throw_owner_died(what, word.owner());
  }
}

}  // namespace

Lock::Lock() : ref_(memory::create<sync::LockWord>(Kind::lock, 0, 0)) {}

bool Lock::acquire(bool block, Timeout timeout) {
  return take(ref_.as<sync::LockWord>(), memory::self(), block, timeout, "Lock");
}

void Lock::release() {
  if (!ref_.as<sync::LockWord>().release()) throw ValueError("semaphore or lock released too many times");
}

bool Lock::locked() const noexcept { return ref_.as<sync::LockWord>().owner() != memory::kNobody; }

bool Lock::recover_with(const std::function<void()>& repair) {
  auto& word = ref_.as<sync::LockWord>();
  if (!word.seize(memory::self())) return false;
  struct Release {
    sync::LockWord& word;
    ~Release() { word.release(); }
  } release{word};
  repair();
  return true;
}

void Lock::mp_pickle(pickle::Writer& out) const { pickle::dump_ref(out, ref_); }
Lock Lock::mp_unpickle(pickle::Reader& in) { return Lock(pickle::load_ref(in, Kind::lock)); }

RLock::RLock() : ref_(memory::create<RLockState>(Kind::rlock, 0, 0)) {}

bool RLock::acquire(bool block, Timeout timeout) {
  auto& state = ref_.as<RLockState>();
  memory::Tag me = memory::self();
  if (state.mine(me)) {
    ++state.levels;
    return true;
  }
  if (!take(state.word, me, block, timeout, "RLock")) return false;
  state.thread.store(sync::this_thread(), std::memory_order_relaxed);
  state.levels = 1;
  return true;
}

void RLock::release() {
  auto& state = ref_.as<RLockState>();
  if (!state.mine(memory::self())) throw ValueError("an RLock is released by the thread that holds it, and by no other");
  if (--state.levels > 0) return;
  state.thread.store(0, std::memory_order_relaxed);
  state.word.release();
}

bool RLock::locked() const noexcept { return ref_.as<RLockState>().word.owner() != memory::kNobody; }
bool RLock::owned() const noexcept { return ref_.as<RLockState>().mine(memory::self()); }

unsigned RLock::release_all() {
  auto& state = ref_.as<RLockState>();
  if (!state.mine(memory::self())) throw ValueError("an RLock is released by the thread that holds it, and by no other");
  unsigned levels = std::exchange(state.levels, 0);
  state.thread.store(0, std::memory_order_relaxed);
  state.word.release();
  return levels;
}

void RLock::acquire_again(unsigned levels) {
  acquire();
  ref_.as<RLockState>().levels = levels;
}

bool RLock::recover_with(const std::function<void()>& repair) {
  auto& state = ref_.as<RLockState>();
  if (!state.word.seize(memory::self())) return false;
  state.thread.store(sync::this_thread(), std::memory_order_relaxed);
  state.levels = 1;
  struct Release {
    RLock& lock;
    ~Release() { lock.release(); }
  } release{*this};
  repair();
  return true;
}

void RLock::mp_pickle(pickle::Writer& out) const { pickle::dump_ref(out, ref_); }
RLock RLock::mp_unpickle(pickle::Reader& in) { return RLock(pickle::load_ref(in, Kind::rlock)); }

}  // namespace mp
