// How many CPUs there are, and how many this process may use.
#pragma once

namespace mp {

// CPUs of the whole machine that are online (os.cpu_count). Never below 1. MP_CPU_COUNT overrides both functions.
unsigned cpu_count();

// CPUs this process may use: the smaller of its affinity mask and its cgroup's CPU quota, rounded up
// (os.process_cpu_count, which leaves the quota out). Never below 1. Read afresh at each call, some 50 us.
unsigned process_cpu_count();

}  // namespace mp

namespace mp::os {

// Whether spinning can pay: this process may run on more than one CPU. Read once a process; forks inherit it.
bool spinning_pays() noexcept;

}  // namespace mp::os
