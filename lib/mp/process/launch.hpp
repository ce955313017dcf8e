// Bringing a process to life: fork, or executing the program afresh; what Process and Server have in common. Private to the room.
#pragma once

#include "mp/memory/ref.hpp"
#include "mp/os/clock.hpp"
#include "mp/os/private_fd.hpp"
#include "mp/process/child.hpp"
#include "mp/process/record.hpp"
#include "mp/process/server.hpp"

namespace mp::process {

struct Launched {
  memory::Ref record;
  pid_t pid = 0;
  os::PrivateFd pidfd;
};

// Forks the caller; `body` runs in the child and gives its exit code. `record` is filled and enlisted; when fork fails,
// its member is dismissed. Warns of threads, flushes the streams. Throws OSError.
Launched launch_fork(memory::Ref record, Body body);

// Executes the program, which finds in the record what to run. Throws OSError; Error without freeze_support().
Launched launch_spawn(memory::Ref record);

// The caller's hold on a child that it has made or had made, which waits for it. Where there can be no descriptor, the child ends before
// it has run anything of the user's. Throws OSError.
Launched take_hold(memory::Ref record);

// Has the forkserver fork; returns once the process runs. Throws OSError, Error.
memory::Ref launch_forkserver(Entry entry, const memory::Ref& payload, const LaunchOptions& options);

// Of the calling process's forkserver; 0 if it has none that lives.
pid_t forkserver_pid();

// Waits until `pidfd` is readable, at most until `deadline`. Whether it is.
bool wait_for(int pidfd, os::Deadline deadline) noexcept;

}  // namespace mp::process
