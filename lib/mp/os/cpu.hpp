// How many CPUs there are, and how many this process may use.
#pragma once

#include <sched.h>

#include <cstdint>

namespace mp {

// CPUs of the whole machine that are online (os.cpu_count). Never below 1. MP_CPU_COUNT overrides both functions.
unsigned cpu_count();

// CPUs this process may use: the smaller of its affinity mask and its cgroup's CPU quota, rounded up
// (os.process_cpu_count, which leaves the quota out). Never below 1. Read afresh at each call, some 50 us.
unsigned process_cpu_count();

}  // namespace mp

namespace mp::os {

inline constexpr std::uint32_t kAnyCpu = 0xffff;

// The CPU that the caller runs on, or kAnyCpu where that is not known. A nanosecond where the C library has an rseq area
// (glibc 2.35), else what getcpu(2) takes.
inline std::uint32_t this_cpu() noexcept {
  const int cpu = ::sched_getcpu();
  return cpu >= 0 ? static_cast<std::uint32_t>(cpu) & 0xffff : kAnyCpu;
}

// Whether who was last seen on CPU `other` shares it with the caller: then the two take turns, and neither can miss what the other
// has stored. It may have moved since.
inline bool beside(std::uint32_t other) noexcept { return other != kAnyCpu && other == this_cpu(); }

// Whether spinning can pay: this process may run on more than one CPU. Read once a process; forks inherit it.
bool spinning_pays() noexcept;

}  // namespace mp::os
