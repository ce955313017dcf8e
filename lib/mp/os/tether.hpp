// A child's life tied to another process's by the kernel itself. Each process has one pipe whose write end nobody else
// holds; a child opens the read end anew (its own file description, so its own owner and signal) and asks for SIGKILL
// when the last write end closes, which happens when the holder dies, by whatever death. PR_SET_PDEATHSIG would not
// do: it fires when the *thread* that forked ends. Measured: a child dies 1-2 ms after its parent.
#pragma once

#include <sys/types.h>

namespace mp::os {

// The read end of this process's own pipe, made at first use; children find it by this number. Throws OSError.
int tether_end();

// Dies with the process `holder`, whose tether_end() was `end`. In a fork child `end` is still open; elsewhere it is
// reached through /proc/HOLDER/fd/END. False when the holder is already gone: the caller should end itself.
// Throws OSError where the kernel refuses.
bool tether_to(pid_t holder, int end);

// In a fork child, before anything else: gives up the parent's write end. Async-signal-safe.
void tether_after_fork() noexcept;

}  // namespace mp::os
