// A task that took its process with it. Threads have nothing like it, and Python only the bare BrokenProcessPool; here the caller learns
// what hit which task where. Made by the pool from what the dying process wrote down.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "mp/errors.hpp"
#include "mp/os/backtrace.hpp"

namespace mp {

struct CrashDetails {
  int signal = 0;             // that ended the process; 0: it exited by itself
  int code = 0;               // siginfo's si_code, 0 if not known (SIGKILL cannot be caught)
  std::uint64_t address = 0;  // fault address; where the signal was sent, the sender's pid
  int exit_status = 0;        // where signal is 0
  std::uint64_t task = 0;     // its number in its pool
  std::string task_name{};    // TaskOptions::name
  std::string function{};     // what it ran, with symbols
  std::string worker{};       // name of the process
  pid_t pid = 0;
  std::uint64_t peak_memory = 0;  // bytes, 0 if not known
  os::Stack stack{};
};

// "SIGSEGV, address 0x10 not mapped", "SIGKILL", "exited with status 3".
std::string crash_cause(const CrashDetails& details);

// what(): "task 7 "tile 7" render_tile(int) crashed worker 2 (pid 4711): SIGSEGV, address 0x10 not mapped" and the stack, one
// indented line a frame; made at the first call, since symbols take milliseconds.
class WorkerCrashed : public Error {
 public:
  explicit WorkerCrashed(CrashDetails details);

  const char* what() const noexcept override;
  const CrashDetails& details() const noexcept { return *details_; }
  int signal() const noexcept { return details_->signal; }
  int exit_status() const noexcept { return details_->exit_status; }
  pid_t pid() const noexcept { return details_->pid; }
  std::uint64_t task() const noexcept { return details_->task; }

 private:
  struct Text;
  std::shared_ptr<const CrashDetails> details_;
  std::shared_ptr<Text> text_;
};

}  // namespace mp
