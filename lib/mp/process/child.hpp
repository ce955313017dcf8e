// The life of a process that was started through this library, from its first step to its last; and of the first
// process of a family, as far as its end goes. Private to the room.
//
//   fork        fork -> settle -> run() ------------------------------> exit() -> handlers of its own -> end -> _exit
//   forkserver  fork in the server -> settle -> entry(payload) -------> the same
//   spawn       exec -> main -> freeze_support -> settle -> entry ----> exit() -> ... -> end -> static destructors
//   root        exec -> main -----------------------------------------> exit() -> ... -> end -> static destructors
//
// `end` is a handler that each process registers for itself when it settles (the root: when it first starts another). Handlers
// run last in, first out: those that the child's own code registered run before it, those that the child has inherited from
// its parent would run after it, and never do.
#pragma once

#include <signal.h>

#include <string>

#include "mp/memory/ref.hpp"
#include "mp/process/record.hpp"

namespace mp::process {

enum class Role : std::uint8_t { root, forked, spawned };

// Becomes the process of `record`: reports that it runs, ties its life to whom the record says, closes standard input,
// catches crashes. Ends the process where the record was given up, or the one it is tethered to is gone.
void settle(Record& record, Role role);

// What a forked process runs: its exit code. No std::function: a fork child would map the code of that for this one call.
struct Body {
  int (*run)(void* what);
  void* what;
};

// Settles, runs `body` and exits with the code it returns, or 1 if it throws.
[[noreturn]] void live(Record& record, Role role, Body body) noexcept;

// Settles and runs the entry of `record` with its payload.
[[noreturn]] void live_entry(Record& record, Role role) noexcept;

// In a server's child: once the entry that runs has returned, which is the server's, the process lives as that of `record` instead of
// ending. So its stack holds nothing of the server, nor of the servers that that one came from.
void be_reborn_as(Record& record) noexcept;

// Lets go of the payload that the running entry was given.
void drop_payload() noexcept;

// The root's end: from now on it terminates its daemonic children when it exits, and joins the others.
void watch_own_end();

// The calling process as its children and current_process() see it.
struct Self {
  std::string name = "MainProcess";
  std::string identity = {};  // "" in the root
  std::string parent_name = {};
  Tag parent = memory::kNobody;
  pid_t parent_pid = 0;
  bool daemon = false;
};
Self self_info();
bool is_daemon();
void rename_self(const std::string& name);
std::string next_identity();  // "1:3" for the third child of process 1

// Fills in what every record says of its parent and its place, and enlists the member. Throws Error, SharedMemoryFull.
void fill_record(Record& record, const memory::Ref& ref, const std::string& name, const std::string& identity,
                 bool daemon);

// Writes out what the standard streams hold, so that a copy does not write it again. With other threads of the program's own
// about (os/threads.hpp), only what none of them holds a lock on.
void flush_streams(unsigned other_threads) noexcept;

// Says once, on stderr, that a process with other threads of the program's own is being forked.
void warn_of_threads(unsigned others) noexcept;

// process.cpp: daemonic children are terminated, the others joined. And: they are not ours after a fork.
void stop_children() noexcept;
void forget_children() noexcept;
// context.cpp, server.cpp, record.cpp: the same for what they keep.
void stop_forkserver() noexcept;
void forget_forkserver() noexcept;
void forget_concluding() noexcept;

// server.cpp: of the server that this process was forked by.
pid_t server_pid() noexcept;
int server_tether_end() noexcept;

// crash.cpp: from now on how this process crashes is written into its own record. Leaves handlers of others in place.
void catch_crashes() noexcept;

// From now on a std::terminate in this process and those it forks is told with the exception that it was called for. The handler
// that was there runs then, as before.
void describe_terminations() noexcept;

// For a handler (SA_SIGINFO) of a signal that shall end the process as a crash does: describes it in the process's record and takes
// the default action, `core` or not. Async-signal-safe.
void crash_by(int signal, siginfo_t* info, void* context, bool core) noexcept;

}  // namespace mp::process
