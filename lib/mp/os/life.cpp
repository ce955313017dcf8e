#include "mp/os/life.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "mp/errors.hpp"
#include "mp/os/call.hpp"
#include "mp/os/limit.hpp"
#include "mp/os/system_call.hpp"

namespace mp::os {
namespace {

struct Stat {
  char state = 0;
  std::uint64_t flags = 0, start_time = 0;
};
constexpr std::uint64_t kExiting = 4;  // of the kernel's flags of a task, PF_EXITING

// The fields of /proc/PID/stat after "pid (comm) ": comm may hold spaces and parentheses, so look for the last ")".
// All 0 when there is no such process.
Stat read_stat(pid_t pid) noexcept {
  char path[32], text[1024];
  std::snprintf(path, sizeof path, "/proc/%d/stat", static_cast<int>(pid));
  int fd = call_again(Call::open, [&] { return ::open(path, O_RDONLY | O_CLOEXEC); });
  if (fd < 0) return {};
  ssize_t n = call_again(Call::read, [&] { return ::read(fd, text, sizeof text - 1); });
  ::close(fd);
  if (n <= 0) return {};
  text[n] = 0;
  char* p = std::strrchr(text, ')');
  if (!p || p[1] == 0 || p[2] == 0) return {};
  p += 2;
  Stat stat{*p};
  for (int field = 3; field < 22; ++field) {
    p = std::strchr(p, ' ');
    if (!p) return {};
    ++p;
    if (field + 1 == 9) stat.flags = std::strtoull(p, nullptr, 10);
  }
  stat.start_time = std::strtoull(p, nullptr, 10);
  return stat;
}

int raw_pidfd_open(pid_t pid) noexcept {
  return static_cast<int>(call_again(Call::pidfd_open, [&] { return ::syscall(SYS_pidfd_open, pid, 0); }));
}

// struct pidfd_info of <linux/pidfd.h> as of 6.15; older headers lack it.
struct PidfdInfo {
  std::uint64_t mask, cgroup;
  std::uint32_t pid, tgid, ppid, ids[8];
  std::int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64);
constexpr std::uint64_t kInfoExit = 1u << 3;

}  // namespace

std::uint64_t start_time_of(pid_t pid) noexcept { return read_stat(pid).start_time; }

char run_state(pid_t pid) noexcept { return read_stat(pid).state; }

bool exiting(pid_t pid) noexcept {
  const Stat stat = read_stat(pid);
  return stat.state != 0 ? stat.flags & kExiting : call_again(Call::kill, [&] { return ::kill(pid, 0); }) != 0;
}

[[gnu::hot]] Life this_life() noexcept {
  // The kernel itself: a fork child would have to fault in what the C library's way to the clock touches.
  timespec now{};
  system_call(SYS_clock_gettime, CLOCK_BOOTTIME, &now);
  constexpr std::uint64_t ticks = 100, tick = 1'000'000'000 / ticks;  // USER_HZ, the unit of /proc everywhere
  return {::getpid(), static_cast<std::uint64_t>(now.tv_sec) * ticks + static_cast<std::uint64_t>(now.tv_nsec) / tick};
}

[[gnu::hot]] Usage usage_from(const void* rusage) noexcept {
  const auto& used = *static_cast<const ::rusage*>(rusage);
  const auto ns = [](const timeval& t) {
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_usec) * 1'000;
  };
  return {ns(used.ru_utime), ns(used.ru_stime), static_cast<std::uint64_t>(used.ru_maxrss) * 1024,
          static_cast<std::uint64_t>(used.ru_minflt), static_cast<std::uint64_t>(used.ru_majflt)};
}

std::uint64_t cpu_time_of(pid_t pid) noexcept {
  clockid_t clock;
  timespec t{};
  if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &t) != 0) return 0;
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
}

[[gnu::hot]] Usage usage_now() noexcept {
  rusage used{};
  system_call(SYS_getrusage, RUSAGE_SELF, &used);
  return usage_from(&used);
}

bool ended(int pidfd) noexcept {
  pollfd p{pidfd, POLLIN, 0};
  return call_again(Call::poll, [&] { return ::poll(&p, 1, 0); }) > 0;
}

bool alive(const Life& life) noexcept {
  if (life.pid <= 0) return false;
  UniqueFd fd(raw_pidfd_open(life.pid));
  if (!fd) {
    if (errno == ESRCH) return false;
    // Refused (seccomp, EMFILE): a zombie still answers kill(), so read its state.
    if (const Stat stat = read_stat(life.pid); stat.state != 0)
      return stat.state != 'Z' && stat.state != 'X' && (life.seen == 0 || stat.start_time <= life.seen);
    // Nor is there a descriptor for that: but of our own child the kernel tells without.
    siginfo_t info{};
    auto ask = [&] {
      return ::waitid(P_PID, static_cast<id_t>(life.pid), &info, WEXITED | WNOHANG | WNOWAIT | __WALL);
    };
    if (call_again(Call::waitid, ask) == 0 && info.si_pid != 0) return false;
    return call_again(Call::kill, [&] { return ::kill(life.pid, 0); }) == 0 || errno != ESRCH;
  }
  if (ended(fd.get())) return false;
  if (life.seen == 0) return true;
  std::uint64_t began = start_time_of(life.pid);
  return began == 0 ? !ended(fd.get()) : began <= life.seen;
}

UniqueFd open_pidfd(pid_t pid) {
  UniqueFd fd(raw_pidfd_open(pid));
  if (!fd && errno != ESRCH) throw refused(errno, "pidfd_open", "of process " + std::to_string(pid));
  return fd;
}

bool send_signal(int pidfd, int signal) noexcept {
  return call_again(Call::kill, [&] { return ::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0); }) == 0;
}

bool is_child(int pidfd) noexcept {
  return call_again(Call::waitid, [&] {
           return ::syscall(SYS_waitid, P_PIDFD, pidfd, nullptr, WEXITED | WNOHANG | WNOWAIT | __WALL, nullptr);
         }) == 0;
}

std::optional<int> exit_status(int pidfd, Usage* told) noexcept {
  siginfo_t info{};
  rusage used{};
  // The system call itself: glibc's waitid() has no rusage. __WALL: also children that were not made with SIGCHLD.
  auto reaped = call_again(
      Call::waitid, [&] { return ::syscall(SYS_waitid, P_PIDFD, pidfd, &info, WEXITED | WNOHANG | __WALL, &used); });
  if (reaped == 0 && info.si_pid != 0) {
    if (told) *told = usage_from(&used);
    return info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
  }
  PidfdInfo asked{};
  asked.mask = kInfoExit;
  constexpr unsigned long request = _IOC(_IOC_READ | _IOC_WRITE, 0xFF, 11, sizeof(PidfdInfo));
  if (call(Call::ioctl, [&] { return ::ioctl(pidfd, request, &asked); }) == 0 && (asked.mask & kInfoExit)) {
    int status = asked.exit_code;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  return std::nullopt;
}

}  // namespace mp::os
