// A lock for a few instructions between threads of one process that is nearly always taken by the same thread: for that one, without an
// atomic step, so that it never waits for the stores before. The first thread that takes it has it so until another one comes; from
// then on it is a SpinLock for all. Nothing for memory that processes share.
//
// The bias: 0 nobody has come yet, kShared several have, else the one thread that has.
// Invariant: the one thread is inside only while `inside_` says so and the bias is still its own; who takes the bias away lets a
// heavy_fence() pass and waits until it is out.
//
// *Thread safety*: its purpose. *Memory ordering*: a lock's. In a fork child the lock is as it was in the forking thread.
#pragma once

#include <atomic>
#include <cstdint>

#include "mp/os/fence.hpp"
#include "mp/os/spin_lock.hpp"

namespace mp::os {

class BiasedLock {
 public:
  void lock() noexcept {
    if (bias_.load(std::memory_order_relaxed) == this_thread()) [[likely]] {
      inside_.store(true, std::memory_order_relaxed);
      light_fence();
      if (bias_.load(std::memory_order_acquire) == this_thread()) [[likely]] {
        by_bias_ = true;
        return;
      }
      inside_.store(false, std::memory_order_release);
    }
    lock_slowly();
  }
  void unlock() noexcept {
    if (by_bias_) [[likely]]
      inside_.store(false, std::memory_order_release);
    else shared_.unlock();
  }

 private:
  static constexpr std::uintptr_t kShared = 1;
  static std::uintptr_t this_thread() noexcept {
    static thread_local char here;
    return reinterpret_cast<std::uintptr_t>(&here) | 2;  // neither 0 nor kShared
  }
  void lock_slowly() noexcept;
  void take_bias_away() noexcept;

  std::atomic<std::uintptr_t> bias_{0};
  std::atomic<bool> inside_{false};
  bool by_bias_ = false;  // how its holder has come by it
  SpinLock shared_;
};

}  // namespace mp::os
