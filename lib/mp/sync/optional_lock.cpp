#include "mp/sync/optional_lock.hpp"

#include "mp/pickle/bytes.hpp"

namespace mp::sync {
namespace {

template <class V, class F>
auto with_lock(V& lock, F&& f) {
  if (auto* l = std::get_if<Lock>(&lock)) return f(*l);
  if (auto* r = std::get_if<RLock>(&lock)) return f(*r);
  throw ValueError("this shared object was made without a lock");
}

}  // namespace

bool OptionalLock::acquire(bool block, Timeout timeout) {
  return with_lock(lock_, [&](auto& l) { return l.acquire(block, timeout); });
}
void OptionalLock::release() {
  with_lock(lock_, [](auto& l) { l.release(); });
}
bool OptionalLock::recover() {
  return with_lock(lock_, [](auto& l) { return l.recover(); });
}

void OptionalLock::mp_pickle(pickle::Writer& out) const {
  out.put(static_cast<std::uint8_t>(lock_.index()));
  if (!none()) with_lock(lock_, [&](auto& l) { l.mp_pickle(out); });
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
