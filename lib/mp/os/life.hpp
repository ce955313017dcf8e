// Whether a process lives, asked of the kernel: a pid alone proves nothing, since pids come back.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>

#include "mp/os/fd.hpp"

namespace mp::os {

// One life of one process: its pid, and a time at which it had it (clock ticks since boot; 0 = not known). Whoever has
// the pid later and began no later is still the same.
struct Life {
  pid_t pid = 0;
  std::uint64_t seen = 0;
};

// What a process and the children that it has waited for have used since it began. Times in ns, in steps of the kernel's clock tick
// where that counts by ticks (1 to 10 ms).
struct Usage {
  std::uint64_t user_time = 0, system_time = 0;
  std::uint64_t peak_memory = 0;   // most bytes resident at any time
  std::uint64_t minor_faults = 0;  // pages that were there, or fresh ones
  std::uint64_t major_faults = 0;  // pages that had to be read from a disk
};
// User and system time of process `pid`, with all its threads, in ns; 0 when there is none.
std::uint64_t cpu_time_of(pid_t pid) noexcept;
// Of the calling process. Async-signal-safe.
Usage usage_now() noexcept;
Usage usage_from(const void* rusage) noexcept;  // a struct rusage

// The calling process, now: two system calls, no memory but the caller's.
Life this_life() noexcept;

// When the process `pid` began (clock ticks since boot, /proc/PID/stat field 22); 0 when there is none or /proc is missing.
std::uint64_t start_time_of(pid_t pid) noexcept;

// What the process is doing, as ps shows it: 'R' runs, 'S' sleeps, 'T' stopped, 'Z' zombie; 0 when there is none or /proc
// is missing.
char run_state(pid_t pid) noexcept;

// Whether the main thread of the process has begun to exit, or has ended: its descriptors are closed then, or about to be.
bool exiting(pid_t pid) noexcept;

// False once that life has ended, also while it is an unreaped zombie. Some 5 us: three system calls.
bool alive(const Life& life) noexcept;

// A descriptor of the process (pidfd_open(2), close-on-exec), readable once it has ended; empty when it is gone.
// Throws OSError where the kernel refuses (EMFILE, ENOSYS).
UniqueFd open_pidfd(pid_t pid);

// Whether the process behind `pidfd` has ended.
bool ended(int pidfd) noexcept;

// Sends a signal to the process behind `pidfd`. False when it is gone or may not be told.
bool send_signal(int pidfd, int signal) noexcept;

// Whether the process behind `pidfd` is a child of the caller's that nobody has reaped.
bool is_child(int pidfd) noexcept;

// How a process ended, in Python's form: its exit code, or -N for death by signal N; nothing where the kernel no longer
// knows. Reaps the process if it is our child; otherwise asks PIDFD_GET_INFO (Linux 6.15), so that it is right also
// where the program ignores SIGCHLD or reaped the child itself. Call only once ended(pidfd). `used`, where given, is
// set if we reaped it.
std::optional<int> exit_status(int pidfd, Usage* used = nullptr) noexcept;

}  // namespace mp::os
