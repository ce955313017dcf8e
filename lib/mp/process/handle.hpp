// A process as its relatives see it: a child, the parent, or the caller itself. What Python's current_process(),
// parent_process() and active_children() hand out; mp::Process is one that can be started.
//
// *Thread and process safety*: a handle is a value that shares its state with its copies; distinct calls on one object from several
// threads are fine, but for close() and move. Meant for the process that got it: elsewhere, as in a fork child,
// join() throws ValueError.
// *If the process is killed*: that is what it tells. The death is seen by pidfd, whatever the program does with SIGCHLD and
// however many descendants live; the exit code is the kernel's as long as it tells one (our own child; any on Linux
// 6.15), else what the process said at its own exit, else the signal that was sent with this handle, else 255.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mp/os/clock.hpp"

namespace mp {

class ProcessHandle;

namespace process {
struct State;
struct Record;
// What the family knows of a started child (record.hpp); null for other handles. Valid as long as the handle.
Record* record_of(const ProcessHandle& process) noexcept;
}  // namespace process

class ProcessHandle {
 public:
  ProcessHandle() noexcept = default;  // nobody: parent_process() of the first process
  explicit ProcessHandle(std::shared_ptr<process::State> state) noexcept : state_(std::move(state)) {}
  explicit operator bool() const noexcept { return state_ != nullptr; }

  std::string name() const;
  void set_name(std::string name);
  bool daemon() const;
  pid_t pid() const;  // 0 before start
  pid_t ident() const { return pid(); }

  bool is_alive() const;
  // Waits until it has ended, at most `timeout`; whether it has. Throws ValueError for what is no started child or
  // parent of the caller.
  bool join(Timeout timeout = {}) const;
  // Its exit code, or -N for death by signal N; nothing before it has ended (and for a parent).
  std::optional<int> exitcode() const;
  // A descriptor that is readable from its end on, for poll, epoll and connection::wait; it is closed with the last
  // handle, or by close(). Throws ValueError before start.
  int sentinel() const;

  void terminate()
      const;          // SIGTERM; throws OSError, as the next two, where the kernel refuses (it has another user id)
  void kill() const;  // SIGKILL
  void interrupt() const;  // SIGINT
  // Releases what the system holds for it; afterwards all but close() throws ValueError. Throws ValueError while it runs.
  void close();

  // "<Process name='Process-1' pid=4711 parent=4710 stopped exitcode=-15>"
  std::string repr() const;

  friend bool operator==(const ProcessHandle&, const ProcessHandle&) noexcept = default;

 protected:
  friend process::Record* process::record_of(const ProcessHandle&) noexcept;
  process::State& state() const;  // throws ValueError when closed or nobody
  std::shared_ptr<process::State> state_;
};

// The calling process. Its name is "MainProcess" in the first of a family.
ProcessHandle current_process();
// Who started the calling process; nobody in the first. is_alive(), join() with timeout, name and pid work.
ProcessHandle parent_process();
// The caller's children that live. Reaps those that have ended.
std::vector<ProcessHandle> active_children();

}  // namespace mp
