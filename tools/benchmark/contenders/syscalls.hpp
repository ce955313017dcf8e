// Counts system calls of this process and of all that it starts: by perf's tracepoint where the kernel permits it, which
// costs the counted next to nothing, else by a tracer.
//
//   contender --fork--> tracer: seizes the contender's threads; the kernel hands it whatever they start from then on,
//       |                       threads, forks of a zygote, programs; stopped at each system call's entry and exit,
//       +-> workers             they are counted and sent on
//
// The tracer slows system calls down (several microseconds each), and nothing else. *If a process is killed*: the tracer dies
// with the thread that made it, and the kernel lets go of whoever it traced, running; without a tracer, way() says nullptr.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <vector>

namespace bench {

class SyscallCounter {
 public:
  // Ready for the threads that there are, and for all threads and processes that come from them later.
  SyscallCounter();
  ~SyscallCounter();
  SyscallCounter(const SyscallCounter&) = delete;
  SyscallCounter& operator=(const SyscallCounter&) = delete;

  // "perf" or "ptrace"; nullptr if neither is permitted.
  const char* way() const;
  bool is_slow() const { return tracer_ > 0; }
  void start();
  std::uint64_t stop();  // calls begun since start()

 private:
  struct Shared {
    std::atomic<bool> on;
    std::atomic<std::uint64_t> calls;
  };

  void open_perf(const std::vector<pid_t>& threads);
  void fork_tracer(const std::vector<pid_t>& threads);
  [[noreturn]] static void trace(const std::vector<pid_t>& threads, int ready, Shared& shared);

  std::vector<int> perf_;  // one descriptor a thread
  pid_t tracer_ = 0;
  Shared* shared_ = nullptr;
};

}  // namespace bench
