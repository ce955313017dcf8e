// The pace at which somebody waits for the next of many things that are done one after another. Woken for each he would take a CPU from
// those who do them, and cost them a system call a thing; so between two waits he lets a tenth of a millisecond pass.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "mp/os/clock.hpp"

namespace mp::pool {

// *Thread safety*: any thread.
class Pace {
 public:
  // Before a wait: lets time pass if the last one has just ended, as far as `deadline` allows. Whether it did.
  bool keep(const os::Deadline& deadline) noexcept {
    const std::chrono::nanoseconds since(os::monotonic_now().count() - ended_.load(std::memory_order_relaxed));
    if (since >= kApart) return false;
    const auto left = deadline.next(kApart - since);
    if (left <= left.zero()) return false;
    std::this_thread::sleep_for(left);
    return true;
  }
  void wait_has_ended() noexcept { ended_.store(os::monotonic_now().count(), std::memory_order_relaxed); }

 private:
  static constexpr std::chrono::nanoseconds kApart = std::chrono::microseconds(100);
  std::atomic<std::int64_t> ended_{-kApart.count()};  // CLOCK_MONOTONIC, ns
};

}  // namespace mp::pool
