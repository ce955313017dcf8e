// What a process and all its descendants use, as the kernel counts it under /proc.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace bench {

std::vector<pid_t> descendants(pid_t of);  // without itself

// A field of /proc/PID/smaps_rollup in bytes; 0 if the process is gone.
std::uint64_t smaps(pid_t pid, const std::string& field);

// Private memory of this process and its descendants, and all pages of the shared memory objects that this process has
// open, mapped or not; in bytes.
std::uint64_t family_memory();

// CPU time in nanoseconds that these processes' threads have used, but for the calling thread, which is busy looking.
std::uint64_t cpu_time(const std::vector<pid_t>& pids);

std::uint64_t available_memory();  // of the machine, in bytes

}  // namespace bench
