#include "mp/sync/lock.hpp"

#include "mp/errors.hpp"
#include "mp/pickle/handle.hpp"
#include "mp/sync/lock_word.hpp"

namespace mp {
namespace {

using memory::Kind;

// Invariants:
//  1. `word` alone says who may be inside; acquiring and releasing are its commit points.
//  2. `holder` names process and thread (bits 0-31 the thread's number, bits 32-63 the tag) from just after acquiring until just
//     before releasing. It is compared as a whole: what a dead owner left in it is nobody's.
//  3. `levels` is written by the holder alone and means something only while there is one.
struct RLockState {
  sync::LockWord word;
  std::uint32_t levels = 0;
  std::atomic<std::uint64_t> holder{0};

  static std::uint64_t caller() noexcept { return std::uint64_t{memory::self()} << 32 | sync::this_thread(); }
  bool mine() const noexcept { return holder.load(std::memory_order_relaxed) == caller(); }
  void enter(unsigned depth) noexcept {
    levels = depth;
    holder.store(caller(), std::memory_order_relaxed);
  }
  void leave() noexcept {
    holder.store(0, std::memory_order_relaxed);
    word.release();
  }
  void check_mine() const {
    if (!mine()) throw ValueError("an RLock is released by the thread that holds it, and by no other");
  }
};
static_assert(sizeof(RLockState) == 16 && std::atomic<std::uint64_t>::is_always_lock_free);

// True, false or OwnerDied.
bool take(sync::LockWord& word, bool block, Timeout timeout, const char* what) {
  memory::Tag me = memory::self();
  if (word.try_acquire(me)) [[likely]] return true;
  memory::Tag owner = word.owner();
  if (block) {
    switch (word.acquire(me, os::Deadline(timeout))) {
      case sync::Acquired::yes: return true;
      case sync::Acquired::timed_out: return false;
      case sync::Acquired::owner_died: owner = word.owner(); break;
    }
  } else if (!word.owner_is_gone()) {
    return false;
  }
  sync::throw_owner_died(what, owner);
}

}  // namespace

Lock::Lock() : ref_(memory::create<sync::LockWord>(Kind::lock, 0, 0)) {}

bool Lock::acquire(bool block, Timeout timeout) {
  return take(ref_.as<sync::LockWord>(), block, timeout, "Lock");
}

void Lock::release() {
  if (!ref_.as<sync::LockWord>().release()) throw ValueError("semaphore or lock released too many times");
}

bool Lock::locked() const noexcept { return ref_.as<sync::LockWord>().owner() != memory::kNobody; }
bool Lock::owned() const noexcept { return ref_.as<sync::LockWord>().owner() == memory::self(); }

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
  if (state.mine()) {
    ++state.levels;
    return true;
  }
  if (!take(state.word, block, timeout, "RLock")) return false;
  state.enter(1);
  return true;
}

void RLock::release() {
  auto& state = ref_.as<RLockState>();
  state.check_mine();
  if (--state.levels == 0) state.leave();
}

bool RLock::locked() const noexcept { return ref_.as<RLockState>().word.owner() != memory::kNobody; }
bool RLock::owned() const noexcept { return ref_.as<RLockState>().mine(); }

unsigned RLock::release_all() {
  auto& state = ref_.as<RLockState>();
  state.check_mine();
  unsigned levels = std::exchange(state.levels, 0);
  state.leave();
  return levels;
}

void RLock::acquire_again(unsigned levels) {
  acquire();
  ref_.as<RLockState>().levels = levels;
}

bool RLock::recover_with(const std::function<void()>& repair) {
  auto& state = ref_.as<RLockState>();
  if (!state.word.seize(memory::self())) return false;
  state.enter(1);
  struct Leave {
    RLockState& state;
    ~Leave() { state.leave(); }
  } leave{state};
  repair();
  return true;
}

void RLock::mp_pickle(pickle::Writer& out) const { pickle::dump_ref(out, ref_); }
RLock RLock::mp_unpickle(pickle::Reader& in) { return RLock(pickle::load_ref(in, Kind::rlock)); }

}  // namespace mp
