// Sleeping on a word of shared memory (futex(2)), shared between processes. The kernel keeps no state of ours: a killed
// sleeper leaves nothing behind.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace mp::os {

enum class Woken : std::uint8_t {
  woken,    // by futex_wake, or spuriously
  changed,  // the word no longer held `expected`
  timed_out,
  interrupted,  // by a signal handler
};

// Sleeps while `word == expected`, at most `limit`. Never throws; any process that maps the word may wake it.
Woken futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                 std::chrono::nanoseconds limit) noexcept;

// Wakes at most `count` sleepers; returns how many. Async-signal-safe.
int futex_wake(const std::atomic<std::uint32_t>& word, int count) noexcept;

inline constexpr int kAll = 0x7fffffff;

struct FutexWaiter {
  const std::atomic<std::uint32_t>* word;
  std::uint32_t expected;
};
inline constexpr int kMaxFutexes = 128;

// Sleeps while every word holds its expected value (futex_waitv(2), at most kMaxFutexes). Where the kernel has no
// futex_waitv, sleeps on the first word for at most a millisecond.
Woken futex_wait_any(const FutexWaiter* waiters, int count, std::chrono::nanoseconds limit) noexcept;

static_assert(sizeof(std::atomic<std::uint32_t>) == 4 && std::atomic<std::uint32_t>::is_always_lock_free);

}  // namespace mp::os
