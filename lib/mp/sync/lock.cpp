#include "mp/sync/lock.hpp"

#include "mp/errors.hpp"
#include "mp/pickle/handle.hpp"
#include "mp/sync/lock_word.hpp"

namespace mp {
namespace {

using memory::Kind;

// Invariants, of both states:
//  1. `word` alone says who may be inside; acquiring and releasing are its commit points.
//  2. `lost_by` names the dead owner from whom the holder has taken the lock over without recovering it (acquire_again); a release gives
//     it back to him. Written by the holder alone.
struct LockState {
  sync::LockWord word;
  std::atomic<memory::Tag> lost_by{memory::kNobody};

  bool release() noexcept {
    memory::Tag back_to = lost_by.load(std::memory_order_relaxed);
    if (back_to != memory::kNobody) [[unlikely]]
      lost_by.store(memory::kNobody, std::memory_order_relaxed);
    return word.release(back_to);
  }
  bool seize(memory::Tag me) noexcept {
    if (word.seize(me) == memory::kNobody) return false;
    lost_by.store(memory::kNobody, std::memory_order_relaxed);
    return true;
  }
  // Held afterwards in any case. The dead owner it was taken from, kNobody if it was free.
  memory::Tag take_over(memory::Tag me) noexcept {
    for (;;) {
      if (word.acquire(me, os::Deadline()) == sync::Acquired::yes) return memory::kNobody;
      if (memory::Tag dead = word.seize(me)) {
        lost_by.store(dead, std::memory_order_relaxed);
        return dead;
      }
    }
  }
  // The lock, held by the caller and lost by somebody else, is repaired.
  void recover_held(sync::Repair repair) {
    repair();
    lost_by.store(memory::kNobody, std::memory_order_relaxed);
  }
};
static_assert(sizeof(LockState) == 12);

//  3. `holder` names process and thread (bits 0-31 the thread's number, bits 32-63 the tag) from just after acquiring until just
//     before releasing. It is compared as a whole: what a dead owner left in it is nobody's.
//  4. `levels` is written by the holder alone and means something only while there is one.
struct RLockState : LockState {
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
    release();
  }
  void check_mine() const {
    if (!mine()) throw ValueError("an RLock is released by the thread that holds it, and by no other");
  }
};
static_assert(sizeof(RLockState) == 24 && std::atomic<std::uint64_t>::is_always_lock_free);

// True, false or OwnerDied.
bool take(sync::LockWord& word, bool block, Timeout timeout, const char* what) {
  memory::Tag me = memory::self();
  if (word.try_acquire(me)) [[likely]]
    return true;
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

Lock::Lock() : ref_(memory::create<LockState>(Kind::lock, 0, 0)) {}

bool Lock::acquire(bool block, Timeout timeout) { return take(ref_.as<LockState>().word, block, timeout, "Lock"); }

void Lock::acquire_again() {
  memory::Tag dead = ref_.as<LockState>().take_over(memory::self());
  if (dead != memory::kNobody) sync::throw_owner_died("Lock", dead);
}

void Lock::release() {
  if (!ref_.as<LockState>().release()) throw ValueError("semaphore or lock released too many times");
}

bool Lock::locked() const noexcept { return ref_.as<LockState>().word.owner() != memory::kNobody; }
bool Lock::owned() const noexcept { return ref_.as<LockState>().word.owner() == memory::self(); }

bool Lock::recover_with(sync::Repair repair) {
  auto& state = ref_.as<LockState>();
  if (owned() && state.lost_by.load(std::memory_order_relaxed) != memory::kNobody) {
    state.recover_held(repair);
    return true;
  }
  if (!state.seize(memory::self())) return false;
  struct Release {
    LockState& state;
    ~Release() { state.release(); }
  } release{state};
  repair();
  return true;
}

void Lock::mp_pickle(pickle::Writer& out) const { pickle::dump_ref(out, ref_); }
Lock Lock::mp_unpickle(pickle::Reader& in) { return Lock(pickle::load_ref<LockState>(in, Kind::lock)); }

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
  auto& state = ref_.as<RLockState>();
  memory::Tag dead = state.take_over(memory::self());
  state.enter(levels);
  if (dead != memory::kNobody) sync::throw_owner_died("RLock", dead);
}

bool RLock::recover_with(sync::Repair repair) {
  auto& state = ref_.as<RLockState>();
  if (state.mine() && state.lost_by.load(std::memory_order_relaxed) != memory::kNobody) {
    state.recover_held(repair);
    return true;
  }
  if (!state.seize(memory::self())) return false;
  state.enter(1);
  struct Leave {
    RLockState& state;
    ~Leave() { state.leave(); }
  } leave{state};
  repair();
  return true;
}

void RLock::mp_pickle(pickle::Writer& out) const { pickle::dump_ref(out, ref_); }
RLock RLock::mp_unpickle(pickle::Reader& in) { return RLock(pickle::load_ref<RLockState>(in, Kind::rlock)); }

}  // namespace mp
