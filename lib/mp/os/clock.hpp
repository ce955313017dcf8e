// Time limits. Everything that can block takes a Timeout, Python's convention for all of them: none given = for ever,
// negative = do not wait. Inside, a Timeout becomes a Deadline on the monotonic clock once, at entry.
#pragma once

#include <time.h>
#include <chrono>
#include <optional>

namespace mp {

class Timeout {
 public:
  constexpr Timeout() noexcept = default;        // for ever
  constexpr Timeout(std::nullopt_t) noexcept {}  // for ever, Python's None
  template <class Rep, class Period>
  constexpr Timeout(std::chrono::duration<Rep, Period> d) noexcept : forever_(false) {
    using std::chrono::nanoseconds;
    if (d > d.zero()) {
      // A limit beyond a century is no limit to the clock, and must not overflow it.
      forever_ = std::chrono::duration<double>(d).count() > 3e9;
      if (!forever_) left_ = std::chrono::ceil<nanoseconds>(d);
    }
  }
  constexpr bool forever() const noexcept { return forever_; }
  constexpr std::chrono::nanoseconds left() const noexcept { return left_; }  // only when not for ever

 private:
  bool forever_ = true;
  std::chrono::nanoseconds left_{0};
};

}  // namespace mp

namespace mp::os {

inline std::chrono::nanoseconds monotonic_now() noexcept {
  timespec t;
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
}

// A point on the monotonic clock, or never.
class Deadline {
 public:
  Deadline() noexcept = default;  // never
  explicit Deadline(Timeout t) noexcept
      : never_(t.forever()),
        at_(t.forever() ? t.left() : monotonic_now() + t.left()) {}
  bool never() const noexcept { return never_; }
  bool passed() const noexcept { return !never_ && monotonic_now() >= at_; }
  // What is left, at most `slice`: the length of the next sleep. Zero when passed.
  std::chrono::nanoseconds next(std::chrono::nanoseconds slice) const noexcept {
    if (never_) return slice;
    auto left = at_ - monotonic_now();
    return left <= left.zero() ? left.zero() : left < slice ? left : slice;
  }

 private:
  bool never_ = true;
  std::chrono::nanoseconds at_{0};
};

// No sleep on shared memory is longer than this: a wake-up lost to a kill costs one slice, not for ever.
inline constexpr std::chrono::nanoseconds kSlice = std::chrono::milliseconds(20);
// The first sleep of who has left out the fence against one that was last seen on the same CPU, and may have moved.
inline constexpr std::chrono::nanoseconds kBrief = std::chrono::milliseconds(4);

}  // namespace mp::os
