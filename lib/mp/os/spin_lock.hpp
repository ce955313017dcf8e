// A lock for a few instructions between threads of one process: one atomic step to take it, none to give it up. Who finds it taken
// looks for a moment and then naps, since its holder may not be running. Nothing for memory that processes share.
#pragma once

#include <time.h>

#include <atomic>

#include "mp/os/spin.hpp"

namespace mp::os {

inline void nap() noexcept {
  const timespec length{0, 20'000};
  ::nanosleep(&length, nullptr);
}

// Until `ready()`, which somebody is about to make true.
template <class Ready>
void nap_until(Ready&& ready) noexcept {
  for (int looks = 0; !ready(); ++looks) {
    if (looks < 100) cpu_relax();
    else nap();
  }
}

class SpinLock {
 public:
  void lock() noexcept {
    while (taken_.exchange(true, std::memory_order_acquire)) [[unlikely]]
      nap_until([this] { return !taken_.load(std::memory_order_relaxed); });
  }
  void unlock() noexcept { taken_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> taken_{false};
};

}  // namespace mp::os
