// A task that took its process with it, or was ended for going past a limit. Threads have nothing like it, and Python only the bare
// BrokenProcessPool; here the caller learns what hit which task where. Made by the pool from what the dying process wrote down, from what
// the kernel says of its end, and from the limits that were in force: facts, no guesses; what is not known is left empty.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "mp/errors.hpp"
#include "mp/os/backtrace.hpp"
#include "mp/os/life.hpp"

namespace mp {

// What may be limited about a task (TaskLimits).
enum class Limit : std::uint8_t { none, wall_time, cpu_time, memory, file_size, output };

// "wall time", "CPU time", "memory", "file size", "output".
const char* to_string(Limit limit) noexcept;

struct CrashDetails {
  int signal = 0;  // that ended the process; 0: it exited by itself, or it lives (a limit of memory or output)
  int code = 0;    // siginfo's si_code, 0 if not known (SIGKILL cannot be caught)
  std::uint64_t address = 0;  // fault address; where the signal was sent, the sender's pid
  // What the fault address lies in: "stack guard of the main thread", "unmapped", "unmapped, 24 bytes beyond [heap]", "[heap] (rw-p)",
  // "/usr/lib/libz.so (r--p)", "shared memory of the family". Empty where there was no fault.
  std::string mapping{};
  bool terminated = false;              // by std::terminate
  std::string exception{};              // its type, where std::terminate was called for one
  std::string exception_what{};         // and its text
  int exit_status = 0;                  // where signal is 0
  std::uint64_t task = 0;               // its number in its pool; a map's tasks are chunks of items
  std::optional<std::uint64_t> item{};  // of a map: which
  std::string task_name{};              // TaskOptions::name
  std::string function{};               // what it ran: "render_tile(int)", or the type of the callable
  std::string arguments{};  // "(3, "left")"; parts that have no text of their own by type; empty if not known
  std::string worker{};     // name of the process
  pid_t pid = 0;
  os::Usage usage{};  // of the process in all its life; zeros if not known
  // Where it ended by a SIGKILL that this library did not send: how many processes of its control group the kernel's OOM killer killed
  // since the pool last looked (at most a second before where tasks run, a minute where none do) and that are not accounted for by
  // another worker's death. 0: it was somebody else. Empty: there is no such counter.
  std::optional<std::uint64_t> oom_kills{};
  std::string oom_counter{};  // the counter's file
  Limit limit = Limit::none;  // it went past
  std::uint64_t allowed = 0;  // ns or bytes
  std::uint64_t used = 0;     // ns or bytes; 0 if not known
  os::Stack stack{};          // where it was hit; empty if not known

  // The kernel's OOM killer did it.
  bool out_of_memory() const noexcept { return oom_kills.value_or(0) > 0; }
};

// "SIGSEGV, address 0x10 not mapped", "SIGKILL", "exited with status 3", "SIGABRT, std::terminate for std::logic_error: no".
std::string crash_cause(const CrashDetails& details);

// The part that every such exception has beside its own type. *Thread safety*: const; any thread.
class CrashReport {
 public:
  virtual ~CrashReport() = default;
  const CrashDetails& details() const noexcept { return *details_; }
  // The first line of what().
  const std::string& headline() const noexcept;
  // Everything, a line a fact, then the stack. Looks symbols up at the first call: milliseconds to tens of them.
  std::string report() const;

 protected:
  CrashReport(CrashDetails details, std::string headline);
  CrashReport(const CrashReport&) = default;
  CrashReport& operator=(const CrashReport&) = default;
  const char* text() const noexcept;  // headline and stack; made at the first call

 private:
  struct Text;
  std::shared_ptr<const CrashDetails> details_;
  std::shared_ptr<Text> text_;
};

// what(): "task 7 "tile 7" render_tile(int) crashed worker-2 (pid 4711): SIGSEGV, address 0x10 not mapped" and the stack, one
// indented line a frame.
class WorkerCrashed : public Error, public CrashReport {
 public:
  explicit WorkerCrashed(CrashDetails details);

  const char* what() const noexcept override { return text(); }
  int signal() const noexcept { return details().signal; }
  int exit_status() const noexcept { return details().exit_status; }
  pid_t pid() const noexcept { return details().pid; }
  std::uint64_t task() const noexcept { return details().task; }

 protected:
  WorkerCrashed(CrashDetails details, std::string headline);
};

// The task went past its limit of CPU time, memory, file size or output. A WorkerCrashed, so that who is ready for a task that ends its
// worker is ready for this; after a limit of memory or output the worker lives on.
class LimitExceeded : public WorkerCrashed {
 public:
  explicit LimitExceeded(CrashDetails details);
  Limit limit() const noexcept { return details().limit; }
};

// The task went past its limit of wall time, and its worker was ended. A TimeoutError, as for everything that takes too long.
class TaskTimeout : public TimeoutError, public CrashReport {
 public:
  explicit TaskTimeout(CrashDetails details);
  const char* what() const noexcept override { return text(); }
  Limit limit() const noexcept { return Limit::wall_time; }
};

}  // namespace mp
