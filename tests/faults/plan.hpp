// What a step of the sweep is about, in memory that the runner (runner.hpp), the victim (victim.cpp) and all that the victim starts
// share: which call shall fail, and what came of it.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>

#include "mp/os/call.hpp"

namespace faults {

inline constexpr const char* kPlanVariable = "MP_FAULTS_PLAN";  // the plan's file
inline constexpr const char* kCallNames[] = {
    "access",     "dup",   "eventfd",     "fallocate",  "fchmod",       "fcntl",     "fork",      "fstat",
    "ftruncate",  "futex", "futex_waitv", "futex_wake", "getaffinity",  "getrandom", "getrlimit", "ioctl",
    "kill",       "link",  "madvise",     "membarrier", "memfd_create", "mincore",   "mmap",      "open",
    "pidfd_open", "pipe",  "poll",        "read",       "readlink",     "setrlimit", "shm_open",  "shm_unlink",
    "sigwait",    "spawn", "stat",        "statvfs",    "thread",       "waitid",    "write"};
static_assert(sizeof kCallNames / sizeof *kCallNames == mp::os::kCalls);

enum class Outcome : std::int32_t {
  none,          // it did not come that far
  worked,        // as without the fault
  typed,         // mp::Error or std::system_error, text in Report
  child_failed,  // a child ended with a code that says so; what it printed names the fault
  wrong,         // a wrong result, or none in time
  untyped,       // any other exception
};

struct Report {
  Outcome outcome;
  char text[600];
};

struct Plan {
  static constexpr int kRuns = 3;  // with the fault, then twice without

  // Written by the runner.
  std::int32_t call;   // an os::Call
  std::int32_t error;  // an errno
  std::int64_t nth;    // of those calls, counted over all processes, from 1; 0: none fails
  bool on;             // and all after it
  // Written by the hook.
  std::atomic<bool> armed;
  std::atomic<std::int64_t> counts[mp::os::kCalls];
  std::atomic<std::int64_t> fired;
  std::atomic<std::int32_t> fired_in;  // the first: which process
  // Written by the victim.
  std::int32_t victim;
  Report reports[kRuns];
  std::int32_t descriptors;  // open in the victim when the objects are gone
};
static_assert(std::atomic<std::int64_t>::is_always_lock_free);

}  // namespace faults
