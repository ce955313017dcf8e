// Who waits in vain for long asks the kernel whether the others live, a few microseconds each. Where many wait for many, one
// of them asks for all: at most one round of questions a slice, whoever comes first.
#pragma once

#include <atomic>
#include <cstdint>

#include "mp/os/clock.hpp"

namespace mp::sync {

// *Thread and process safety*: any thread of any process. *If a process is killed* on its round: the next begins after a slice.
class Patrol {
 public:
  // Whether the caller shall go round now.
  bool due() noexcept {
    std::int64_t now = os::monotonic_now().count(), last = last_.load(std::memory_order_relaxed);
    return now - last >= os::kSlice.count() && last_.compare_exchange_strong(last, now, std::memory_order_relaxed);
  }

 private:
  std::atomic<std::int64_t> last_{0};
};
static_assert(sizeof(Patrol) == 8 && std::atomic<std::int64_t>::is_always_lock_free);

}  // namespace mp::sync
