// What a root, the process whose pools and children are killed, tells the one outside that watches it: in memory that
// both share, so that it can be read whatever becomes of the root.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>

namespace soak {

enum class Count : std::size_t {
  submitted,
  // Each task ends in exactly one of these.
  values,
  exceptions,
  crashes,
  cancelled,
  timed_out,
  // Wrongs: none of them may happen.
  lost,     // a task, item, message or callback that never came, beyond what a victim had in hand
  doubled,  // one that came or ran twice without a retry
  wrong,    // another value or error than it should be; a torn one
  broken,   // a pool that gave up
  // What else was done.
  abandoned,  // tasks whose futures were dropped: they run, nobody asks
  messages,   // through queues and pipes
  in_hand,    // messages that a victim took with it
  updates,    // of values and arrays under a lock
  recovered,  // locks whose owner had died
  last
};

// Of the root, at a moment when all pools are complete and idle.
struct Gauge {
  std::uint64_t memory = 0, descriptors = 0, threads = 0, processes = 0;
};

struct Report {
  std::array<std::atomic<std::uint64_t>, static_cast<std::size_t>(Count::last)> counts{};
  std::atomic<std::uint64_t> beat{0};         // goes on as long as the root gets on
  std::atomic<const char*> doing{"nothing"};  // a literal; the root is a fork of who reads it
  std::atomic<std::uint32_t> calm{0};         // asked for by the root: no more kills for a while
  std::atomic<std::uint32_t> is_calm{0};      // granted: every stopped process goes on again
  Gauge begin, end;                           // after the first tenth of the time; at the end
  std::atomic<std::uint32_t> measured{0};     // how many of the two

  void add(Count what, std::uint64_t n = 1) noexcept {
    counts[static_cast<std::size_t>(what)].fetch_add(n, std::memory_order_relaxed);
  }
  // One of the wrongs, told where it was found.
  void blame(Count what, const char* why, std::uint64_t n = 1) noexcept {
    add(what, n);
    std::fprintf(stderr, "soak: %s (%s)\n", why, doing.load());
  }
  std::uint64_t operator[](Count what) const noexcept {
    return counts[static_cast<std::size_t>(what)].load(std::memory_order_relaxed);
  }
  void go_on() noexcept { beat.fetch_add(1, std::memory_order_relaxed); }
};

}  // namespace soak
