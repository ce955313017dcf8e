// The short wait before the sleep. Waking a sleeping CPU costs 30-80 us where a spin of a few microseconds costs one
// cache line, so waiters look for a while before they sleep: how long adapts to whether looking paid off.
// None at all where the other side cannot run while we look: on one CPU, or when it was last seen on ours.
#pragma once

#include <algorithm>
#include <cstdint>

#include "mp/os/cpu.hpp"

namespace mp::os {

inline void cpu_relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

// Looks at `ready()` up to a bound that it learns; true as soon as it is. One object per thread and kind of wait
// (process-private: not shared, not thread-safe).
class Spinner {
 public:
  // `other_side`: the CPU that who makes it ready was last seen on.
  template <class Ready>
  bool operator()(Ready&& ready, std::uint32_t other_side = kAnyCpu) noexcept(noexcept(ready())) {
    if (ready()) return true;
    if (sleeps_at_once(other_side)) return false;
    if (!spinning_pays()) {
      in_vain_ = 0;
      return false;
    }
    const std::uint32_t most = in_vain_ == kTryAgain ? kTry : rounds_;
    for (std::uint32_t i = 0, pause = 1; i < most; i += pause) {
      for (std::uint32_t k = 0; k < pause; ++k) cpu_relax();
      if (i >= kClose && pause < kLongest) ++pause;
      if (ready()) {
        in_vain_ = 0;
        rounds_ = std::min(kMost, std::max(rounds_ + rounds_ / 8 + 1, 2 * i));
        return true;
      }
    }
    in_vain_ = in_vain_ == kTryAgain ? 0 : in_vain_ + 1;
    rounds_ = rounds_ > 2 * kLeast ? rounds_ - rounds_ / 4 : kLeast;
    return false;
  }

  // Whether to sleep without a look, because the other side was last seen on the caller's own CPU. Counts as a spin in vain: two who
  // sleep for each other's quick answers would never find out that spinning pays by now, so now and then a try is due that is longer
  // than waking a CPU takes.
  bool sleeps_at_once(std::uint32_t other_side) noexcept {
    if (in_vain_ == kTryAgain || !beside(other_side)) return false;
    ++in_vain_;
    return true;
  }

 private:
  static constexpr std::uint32_t kLeast = 32, kMost = 2000;
  // So many looks follow each other closely; then they grow rarer, since each takes the cache line from who will write it.
  static constexpr std::uint32_t kClose = 16, kLongest = 8;
  static constexpr std::uint32_t kTry = 8000, kTryAgain = 256;
  std::uint32_t rounds_ = 256;
  std::uint32_t in_vain_ = 0;  // in a row
};

}  // namespace mp::os
