// Kills a process after the k-th instruction of an operation, for every k: the operation runs in a child, single-stepped
// under ptrace(2) from its entry on. Plain x86-64 and aarch64 Linux; some 5 us an instruction.
#pragma once

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace crash {

// Runs `operation` in a child and kills it after `steps` instructions. False if the operation was over before.
template <class Operation>
bool killed_after(long steps, Operation&& operation) {
  const pid_t pid = ::fork();
  if (pid < 0) std::perror("fork"), std::abort();
  if (pid == 0) {
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ::raise(SIGSTOP);
    operation();
    ::raise(SIGSTOP);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  bool over = false;
  for (long i = 0; i < steps && !over; ++i) {
    ::ptrace(PTRACE_SINGLESTEP, pid, nullptr, nullptr);
    ::waitpid(pid, &status, 0);
    if (!WIFSTOPPED(status)) {
      std::fprintf(stderr, "the stepped child ended by itself, with status %x\n", status);
      std::abort();
    }
    over = WSTOPSIG(status) == SIGSTOP;
  }
  ::kill(pid, SIGKILL);
  ::waitpid(pid, &status, 0);
  return !over;
}

}  // namespace crash
