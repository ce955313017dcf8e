#include "stepper.hpp"

#include <elf.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>

#include "scene.hpp"

namespace crash {
namespace {

constexpr int kAtExit = SIGTRAP | PTRACE_EVENT_EXIT << 8;

void traced(long result, const char* what) {
  if (result < 0) throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}

// What /proc/PID/stat says behind the name: state, parent, ...
std::string stat_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(file, text);
  const auto close = text.rfind(')');
  return close == std::string::npos || close + 2 >= text.size() ? "?" : text.substr(close + 2);
}
char state_of(pid_t pid) { return stat_of(pid)[0]; }
bool is_own_child(pid_t pid) {
  const std::string stat = stat_of(pid);
  return stat.size() > 2 && std::atoi(stat.c_str() + 2) == ::getpid();
}

// The first and the last CPU that this program may use.
struct Cpus {
  int first = 0, last = 0;
  Cpus() {
    cpu_set_t set;
    if (::sched_getaffinity(0, sizeof set, &set) != 0) return;
    first = -1;
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &set)) last = i, first = first < 0 ? i : first;
  }
};
const Cpus cpus;

void pin(pid_t pid, int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  ::sched_setaffinity(pid, sizeof set, &set);
}

// While it is on, waits of this process look up once in a millisecond.
void tick(bool on) {
  struct sigaction action{};
  action.sa_handler = [](int) {};  // no SA_RESTART: waitpid is to return
  if (on) ::sigaction(SIGALRM, &action, nullptr);
  const itimerval every{{0, on ? 1000 : 0}, {0, on ? 1000 : 0}};
  ::setitimer(ITIMER_REAL, &every, nullptr);
}

}  // namespace

void pin_to_stage(pid_t pid) { pin(pid, cpus.first); }
void pin_elsewhere() { pin(0, cpus.last); }

Stepped::Stepped(const std::function<void()>& f) : pid_(::fork()) {
  if (pid_ < 0) throw std::runtime_error("fork failed");
  if (pid_ == 0) {
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    f();
    for (;;) ::pause();
  }
  // Up to the stop that it makes itself, see play.cpp.
  ::waitpid(pid_, &status_, __WALL);
  if (!WIFSTOPPED(status_))
    throw std::runtime_error("the victim ended before its operation, status " + std::to_string(status_));
  traced(::ptrace(PTRACE_SETOPTIONS, pid_, nullptr, PTRACE_O_EXITKILL), "PTRACE_SETOPTIONS");
  tick(true);
}

Stepped::Stepped(pid_t running, bool exits) : pid_(running), leave_(exits && is_own_child(running)) {
  const long options = PTRACE_O_EXITKILL | (exits ? PTRACE_O_TRACEEXIT : 0);
  traced(::ptrace(PTRACE_SEIZE, pid_, nullptr, options), "PTRACE_SEIZE");
  traced(::ptrace(PTRACE_INTERRUPT, pid_, nullptr, nullptr), "PTRACE_INTERRUPT");
  ::waitpid(pid_, &status_, __WALL);
  pin_to_stage(pid_);
  stage->may_go.store(1, std::memory_order_seq_cst);
  tick(true);
}

Stepped::Stop Stepped::resume(int how) {
  const auto signal = static_cast<std::uintptr_t>(signal_);
  signal_ = 0;
  traced(::ptrace(static_cast<__ptrace_request>(how), pid_, nullptr, signal), "ptrace");
  return go_on();
}

Stepped::Stop Stepped::go_on() {
  for (;;) {
    const pid_t got = ::waitpid(pid_, &status_, __WALL);
    if (got < 0 && errno == EINTR) {
      if (state_of(pid_) == 'S') return Stop::sleeps;
      continue;
    }
    if (got < 0 || !WIFSTOPPED(status_)) return pid_ = 0, Stop::ended;
    if (status_ >> 8 == kAtExit) return Stop::ended;
    if (WSTOPSIG(status_) != SIGTRAP) signal_ = WSTOPSIG(status_);
    return Stop::stopped;
  }
}

Stepped::Stop Stepped::step() { return resume(PTRACE_SINGLESTEP); }
Stepped::Stop Stepped::go() { return resume(PTRACE_CONT); }

void Stepped::kill() {
  tick(false);
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  if (status_ >> 8 == kAtExit) ::ptrace(PTRACE_CONT, pid_, nullptr, nullptr);  // which SIGKILL does not wake
  const int how = WEXITED | WSTOPPED | __WALL | (leave_ ? WNOWAIT : 0);
  for (siginfo_t info{};;) {
    if (::waitid(P_PID, static_cast<id_t>(pid_), &info, how) != 0) {
      if (errno == EINTR) continue;
      break;
    }
    if (info.si_code == CLD_EXITED || info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED) break;
    // At its exit, where it was to stop.
    ::ptrace(PTRACE_CONT, pid_, nullptr, nullptr);
  }
  pid_ = 0;
}

#if defined(__x86_64__)

std::uint64_t Stepped::next_address() const {
  return static_cast<std::uint64_t>(::ptrace(PTRACE_PEEKUSER, pid_, offsetof(user, regs.rip), nullptr));
}

bool Stepped::set_breakpoint(std::uint64_t address) {
  const auto reg = [](std::size_t i) { return offsetof(user, u_debugreg) + i * sizeof(user::u_debugreg[0]); };
  return ::ptrace(PTRACE_POKEUSER, pid_, reg(0), address) == 0 && ::ptrace(PTRACE_POKEUSER, pid_, reg(7), 1ul) == 0;
}
void Stepped::clear_breakpoint() {
  ::ptrace(PTRACE_POKEUSER, pid_, offsetof(user, u_debugreg) + 7 * sizeof(user::u_debugreg[0]), 0ul);
}

#else

std::uint64_t Stepped::next_address() const {
  user_regs_struct regs;
  iovec place{&regs, sizeof regs};
  ::ptrace(PTRACE_GETREGSET, pid_, NT_PRSTATUS, &place);
  return regs.pc;
}
bool Stepped::set_breakpoint(std::uint64_t) { return false; }
void Stepped::clear_breakpoint() {}

#endif

}  // namespace crash
