// A process that forks on request: single-threaded, so that its children never inherit a lock that a thread of the
// caller held, and small or clean, so that forking it is cheap.
//
//   caller --push record, SIGCHLD--> server --fork--> child (entry(payload))
//     ^---------- futex on record.status, pidfd ---------|
//
// Two kinds. A *zygote* is a fork of the caller, taken at a quiet moment (when a pool starts): its children are copies
// of the caller of that moment, so any callable works in them. A *clean* server is the program executed afresh (as
// freeze_support() allows), so its children have none of the caller's memory; under spawn and forkserver.
// No descriptor is passed and no socket exists: a request is a record in the arena, the doorbell is a signal.
//
// *Thread and process safety*: launch() and the queries from any thread of the process that made the server; others
// get Error. A fork child of that process must make its own.
// A zygote's caller soon has threads; another fork of it would be a copy of the locks that they hold. So a zygote forks its own
// heir, an equal that waits for nothing but to go on in its place.
//
// *If the server is killed*: children tethered to it die within milliseconds; the others run on and conclude() still
// tells their exit code (from PIDFD_GET_INFO, Linux 6.15, or their own word). Requests under way are given up: a child
// either runs or never will, await_started() says which. usable() is false then; make a new one.
// *If its owner is killed*: the kernel kills the server, and with it what is tethered.
#pragma once

#include <memory>
#include <string>

#include "mp/memory/ref.hpp"
#include "mp/os/clock.hpp"
#include "mp/os/fd.hpp"
#include "mp/process/record.hpp"

namespace mp::process {

struct LaunchOptions {
  std::string name = {};
  bool daemon = false;         // as said by its current_process(); the kernel kills it when the caller dies
  bool tether = true;          // the kernel kills it when the server dies, as well as when the caller dies
  bool awaits_holder = false;  // it runs nothing of the user's before take_hold() (launch.hpp)
  // A futex word in `bell_object`, incremented and woken each time the record's status changes: one word to sleep on
  // for a supervisor of many.
  memory::Offset bell = 0;
  memory::Ref bell_object = {};
  std::string identity = {};  // of a Process, which took its number when it was made; else the next number
};

enum class Started : std::uint8_t {
  running,  // or already ended
  failed,   // fork failed: the errno is in the status
  lost,     // the server died first; the record is abandoned and will never run
  not_yet,  // the deadline passed; ask again, or give_up()
};

class Server {
 public:
  Server() noexcept;  // none: usable() is false
  // Forks the calling process. Throws OSError, SharedMemoryFull. Warns once where other threads of the program run.
  static Server zygote(const std::string& name);
  // Executes the program afresh. Throws as well when freeze_support() was not called.
  static Server clean(const std::string& name);
  Server(Server&&) noexcept;
  Server& operator=(Server&&) noexcept;
  ~Server();  // shutdown()

  // Asks for a process that runs entry(payload). Does not wait: some 2 us. Entry must lie in the program or one of its
  // libraries. Throws Error when the server is not usable.
  memory::Ref launch(Entry entry, const memory::Ref& payload, const LaunchOptions& options);

  // Asks for a server that is a copy of this one and forks like it, tethered to the caller alone. Does not wait. As launch().
  memory::Ref launch_heir(const LaunchOptions& options);
  // The server that an heir has become by now; not usable() if it never began, or has ended: of such a one the exit code is waited for,
  // milliseconds at most, until its server has reaped it. Throws OSError where there is no descriptor for it.
  static Server succeed(memory::Ref heir);

  // Whether the server lives: one system call.
  bool usable() const noexcept;
  // Readable once the server has ended, for a supervisor's poll. -1 if there is none.
  int sentinel() const noexcept;
  pid_t pid() const noexcept;

  // Kills the server and reaps it; its tethered children follow.
  void shutdown() noexcept;

 private:
  struct State;
  explicit Server(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

// Waits until the process of `record` runs, at most until `deadline`.
Started await_started(const memory::Ref& record, os::Deadline deadline) noexcept;

// Makes sure that a record that is still requested never runs. False if it has begun.
bool give_up(Record& record) noexcept;

// A descriptor that is readable once the process of `record`, which has been started, has ended: its pidfd, or, where it
// was reaped already, one that always is. Throws OSError.
os::UniqueFd pidfd_of(const Record& record);

}  // namespace mp::process
