#include "mp/sync/optional_lock.hpp"

#include "mp/errors.hpp"
#include "mp/pickle/bytes.hpp"

namespace mp::sync {

void OptionalLock::throw_no_lock() { throw ValueError("this shared object was made without a lock"); }


bool OptionalLock::acquire(bool block, Timeout timeout) {
  if (auto* lock = std::get_if<Lock>(&lock_)) return lock->acquire(block, timeout);
  if (auto* rlock = std::get_if<RLock>(&lock_)) return rlock->acquire(block, timeout);
  throw_no_lock();
}
void OptionalLock::release() {
  if (auto* lock = std::get_if<Lock>(&lock_)) return lock->release();
  if (auto* rlock = std::get_if<RLock>(&lock_)) return rlock->release();
  throw_no_lock();
}
bool OptionalLock::locked() const {
  if (auto* lock = std::get_if<Lock>(&lock_)) return lock->locked();
  if (auto* rlock = std::get_if<RLock>(&lock_)) return rlock->locked();
  throw_no_lock();
}

void OptionalLock::mp_pickle(pickle::Writer& out) const {
  out.put(static_cast<std::uint8_t>(lock_.index()));
  if (auto* lock = std::get_if<Lock>(&lock_)) lock->mp_pickle(out);
  if (auto* rlock = std::get_if<RLock>(&lock_)) rlock->mp_pickle(out);
}

OptionalLock OptionalLock::mp_unpickle(pickle::Reader& in) {
  switch (in.get<std::uint8_t>("kind of lock")) {
    case 0: return RLock::mp_unpickle(in);
    case 1: return Lock::mp_unpickle(in);
    case 2: return no_lock;
    default: pickle::malformed("kind of lock", "it is none of those there are");
  }
}

}  // namespace mp::sync
