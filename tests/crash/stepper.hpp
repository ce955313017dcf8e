// A process under ptrace(2), stepped instruction by instruction. x86-64 and aarch64 Linux.
//
// A step costs some 5 us where stepper and stepped share a CPU, so both are pinned to one: that is also what keeps the kernel from
// starving, which two CPUs full of single steps do to it. Where the CPU has debug registers (x86-64), breakpoints lead to an instruction
// at full speed; fork children do not inherit them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>

namespace crash {

class Stepped {
 public:
  // Forks a child that is stepped from where `f` calls begin(), see scene.hpp.
  explicit Stepped(const std::function<void()>& f);
  // Takes hold of a process that sleeps. `exits`: it is to end by itself; stops then before it is gone (`ended`), and stays to be
  // reaped by somebody else.
  Stepped(pid_t running, bool exits);
  Stepped(const Stepped&) = delete;
  Stepped& operator=(const Stepped&) = delete;
  ~Stepped() { kill(); }

  enum class Stop : std::uint8_t {
    stopped,  // it stands before its next instruction
    sleeps,   // it is asleep in a system call; go_on() waits for the next stop
    ended,    // by itself, or it is about to
  };
  Stop step();
  Stop go();     // to the next breakpoint, at full speed
  Stop go_on();  // where it sleeps: waits on

  std::uint64_t next_address() const;  // of the instruction before which it stands
  // One at a time; false where there are none to be had. It stops before that instruction each time.
  bool set_breakpoint(std::uint64_t address);
  void clear_breakpoint();

  void kill();  // SIGKILL, and waits for it
  int status() const { return status_; }

 private:
  Stop resume(int how);
  pid_t pid_ = 0;
  bool leave_ = false;  // do not reap
  int signal_ = 0;      // to be delivered when it goes on
  int status_ = 0;
};

// The CPU for stepper and stepped, and for all others.
void pin_to_stage(pid_t pid);
void pin_elsewhere();

}  // namespace crash
