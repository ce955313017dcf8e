// What the kernel's OOM killer has done to a control group. A process that it kills ends by SIGKILL like any other: only the
// group's counter tells. The kernel counts before it sends the signal, so who knows of the death reads a count that has it in.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "mp/os/private_fd.hpp"

namespace mp::os {

// The counter of one group: memory.events (cgroup v2) or memory.oom_control (v1), kept open. *Thread safety*: none.
class OomCounter {
 public:
  OomCounter() noexcept = default;
  // Of the group that process `pid` is in now. Without a counter where there is none to be read (no cgroup file system, a kernel
  // without memory groups, the root group of v2).
  static OomCounter of(pid_t pid) noexcept;
  // The file to read; tests.
  explicit OomCounter(const std::string& file) noexcept;

  explicit operator bool() const noexcept { return fd_.get() >= 0; }
  // "/sys/fs/cgroup/job.slice/memory.events".
  const std::string& file() const noexcept { return file_; }
  // Processes of the group that the OOM killer has killed, ever: one read of a few us. Nothing where it cannot be read.
  std::optional<std::uint64_t> read() const noexcept;

 private:
  std::string file_;
  PrivateFd fd_;
};

// The counter's file of the group that process `pid` is in; empty if there is none.
std::string oom_counter_file(pid_t pid) noexcept;

}  // namespace mp::os
