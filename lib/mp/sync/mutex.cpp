#include "mp/sync/mutex.hpp"

namespace mp::sync {

bool Mutex::lock_slowly(memory::Tag me) noexcept {
  for (;;) {
    if (word_.acquire(me, os::Deadline()) == Acquired::yes) return false;
    if (word_.seize(me) != memory::kNobody) return true;
  }
}

}  // namespace mp::sync
