#include "mp/os/futex.hpp"

#include <linux/futex.h>
#include <time.h>

#include <cerrno>

#include "mp/os/call.hpp"
#include "mp/os/clock.hpp"
#include "mp/os/system_call.hpp"

namespace mp::os {
namespace {

timespec to_timespec(std::chrono::nanoseconds d) noexcept {
  auto s = std::chrono::floor<std::chrono::seconds>(d);
  return {static_cast<time_t>(s.count()), static_cast<long>((d - s).count())};
}

Woken outcome(long result) noexcept {
  if (result >= 0) return Woken::woken;
  switch (errno) {
    case EAGAIN: return Woken::changed;
    case ETIMEDOUT: return Woken::timed_out;
    case EINTR: return Woken::interrupted;
    default: return Woken::woken;  // callers look again; a fault of the kernel must not become a hang
  }
}

// glibc 2.36 has no wrapper and older headers no struct for futex_waitv(2).
struct KernelWaiter {
  std::uint64_t value;
  std::uint64_t address;
  std::uint32_t flags;
  std::uint32_t reserved;
};
constexpr std::uint32_t kFutex32 = 2;
constexpr long kFutexWaitv = 449;  // the same number on every architecture

}  // namespace

[[gnu::hot]] Woken futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                              std::chrono::nanoseconds limit) noexcept {
  if (limit <= limit.zero()) return Woken::timed_out;
  timespec t = to_timespec(limit);
  return outcome(
      call(Call::futex, [&] { return system_call(SYS_futex, &word, FUTEX_WAIT, expected, &t, nullptr, 0); }));
}

[[gnu::hot]] int futex_wake(const std::atomic<std::uint32_t>& word, int count) noexcept {
  const int saved = errno;
  const long woken = call_again(Call::futex_wake,
                                [&] { return system_call(SYS_futex, &word, FUTEX_WAKE, count, nullptr, nullptr, 0); });
  if (woken >= 0) return static_cast<int>(woken);
  errno = saved;
  return 0;
}

Woken futex_wait_any(const FutexWaiter* waiters, int count, std::chrono::nanoseconds limit) noexcept {
  if (limit <= limit.zero()) return Woken::timed_out;
  if (count == 1) return futex_wait(*waiters[0].word, waiters[0].expected, limit);
  KernelWaiter list[kMaxFutexes];
  for (int i = 0; i < count; ++i)
    list[i] = {waiters[i].expected, reinterpret_cast<std::uintptr_t>(waiters[i].word), kFutex32, 0};
  timespec until = to_timespec(monotonic_now() + limit);
  long result =
      call(Call::futex_waitv, [&] { return system_call(kFutexWaitv, list, count, 0, &until, CLOCK_MONOTONIC); });
  if (result < 0 && errno == ENOSYS) {
    auto millisecond = std::chrono::nanoseconds(1'000'000);
    return futex_wait(*waiters[0].word, waiters[0].expected, limit < millisecond ? limit : millisecond);
  }
  return outcome(result);
}

}  // namespace mp::os
