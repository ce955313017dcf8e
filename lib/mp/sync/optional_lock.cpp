#include "mp/sync/optional_lock.hpp"

#include "mp/errors.hpp"
#include "mp/pickle/bytes.hpp"

namespace mp::sync {
namespace {

enum class LockKind : std::uint8_t { rlock, lock, none };

}  // namespace

void OptionalLock::throw_no_lock() {
  throw ValueError("there is no lock: the shared object was made without one, or moved from");
}

bool OptionalLock::acquire(bool block, Timeout timeout) {
  if (rlock_.ref_) return rlock_.acquire(block, timeout);
  return get().lock_.acquire(block, timeout);
}

void OptionalLock::release() {
  if (rlock_.ref_) rlock_.release();
  else get().lock_.release();
}

bool OptionalLock::locked() const {
  if (none()) throw_no_lock();
  return rlock_.ref_ ? rlock_.locked() : lock_.locked();
}

bool OptionalLock::owned() const {
  if (none()) throw_no_lock();
  return rlock_.ref_ ? rlock_.owned() : lock_.owned();
}

unsigned OptionalLock::release_all() {
  if (rlock_.ref_) return rlock_.release_all();
  get().lock_.release();
  return 1;
}

void OptionalLock::acquire_again(unsigned levels) {
  if (rlock_.ref_) rlock_.acquire_again(levels);
  else get().lock_.acquire_again();
}

bool OptionalLock::recover_with(Repair repair) {
  if (rlock_.ref_) return rlock_.recover_with(repair);
  return get().lock_.recover_with(repair);
}

void OptionalLock::mp_pickle(pickle::Writer& out) const {
  out.put(static_cast<std::uint8_t>(rlock_.ref_ ? LockKind::rlock : lock_.ref_ ? LockKind::lock : LockKind::none));
  if (rlock_.ref_) rlock_.mp_pickle(out);
  if (lock_.ref_) lock_.mp_pickle(out);
}

OptionalLock OptionalLock::mp_unpickle(pickle::Reader& in) {
  switch (static_cast<LockKind>(in.get<std::uint8_t>("kind of lock"))) {
    case LockKind::rlock: return RLock::mp_unpickle(in);
    case LockKind::lock: return Lock::mp_unpickle(in);
    case LockKind::none: return no_lock;
  }
  pickle::malformed("kind of lock", "it is none of those there are");
}

}  // namespace mp::sync
