#include "syscalls.hpp"

#include <linux/perf_event.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <new>
#include <string>

namespace bench {
namespace {

constexpr long kFollow = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE;
constexpr int kSyscallStop = SIGTRAP | 0x80;  // what TRACESYSGOOD makes of it

// The calling thread first.
std::vector<pid_t> own_threads() {
  std::vector<pid_t> all{static_cast<pid_t>(::gettid())};
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task"))
    if (pid_t thread = std::stoi(entry.path().filename()); thread != all[0]) all.push_back(thread);
  return all;
}

bool enters(pid_t task) {
  __ptrace_syscall_info info{};
  return ::ptrace(PTRACE_GET_SYSCALL_INFO, task, sizeof(info), &info) > 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY;
}

// Sends a task on that has stopped, up to its next system call. A task killed meanwhile is no error.
void resume(pid_t task, int status) {
  int signal = WSTOPSIG(status), event = status >> 16;
  bool asked_to_stop = event == PTRACE_EVENT_STOP && signal != SIGTRAP;  // by SIGSTOP: it stays stopped, as it should
  bool is_signal = event == 0 && signal != kSyscallStop;
  ::ptrace(asked_to_stop ? PTRACE_LISTEN : PTRACE_SYSCALL, task, nullptr, is_signal ? signal : 0);
}

}  // namespace

SyscallCounter::SyscallCounter() {
  auto threads = own_threads();
  open_perf(threads);
  if (perf_.empty()) fork_tracer(threads);
}

SyscallCounter::~SyscallCounter() {
  for (int fd : perf_) ::close(fd);
  if (tracer_ > 0) {
    ::kill(tracer_, SIGKILL);
    ::waitpid(tracer_, nullptr, 0);
  }
  if (shared_) ::munmap(shared_, sizeof(Shared));
}

const char* SyscallCounter::way() const { return !perf_.empty() ? "perf" : tracer_ > 0 ? "ptrace" : nullptr; }

void SyscallCounter::start() {
  for (int fd : perf_) {
    ::ioctl(fd, PERF_EVENT_IOC_RESET, 0);
    ::ioctl(fd, PERF_EVENT_IOC_ENABLE, 0);
  }
  if (!shared_) return;
  shared_->calls.store(0, std::memory_order_relaxed);
  shared_->on.store(true, std::memory_order_release);
}

std::uint64_t SyscallCounter::stop() {
  std::uint64_t calls = 0;
  if (shared_) {
    shared_->on.store(false, std::memory_order_relaxed);
    if (tracer_ > 0 && ::waitpid(tracer_, nullptr, WNOHANG) != 0) tracer_ = 0;  // killed: what it saw is not all
    calls = shared_->calls.load(std::memory_order_relaxed);
  }
  for (int fd : perf_) {
    std::uint64_t more = 0;
    ::ioctl(fd, PERF_EVENT_IOC_DISABLE, 0);
    if (::read(fd, &more, sizeof(more)) == static_cast<ssize_t>(sizeof(more))) calls += more;
  }
  // The first descriptor counts this thread's own calls: those that switched the others on, and the one that switched it off.
  std::uint64_t own = perf_.empty() ? 0 : 2 * perf_.size() - 1;
  return calls - std::min(calls, own);
}

void SyscallCounter::open_perf(const std::vector<pid_t>& threads) {
  for (const char* folder : {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"}) {
    std::uint64_t id = 0;
    if (!(std::ifstream(std::string(folder) + "/events/raw_syscalls/sys_enter/id") >> id)) continue;
    perf_event_attr attr{};
    attr.size = sizeof(attr);
    attr.type = PERF_TYPE_TRACEPOINT;
    attr.config = id;
    attr.disabled = 1;
    attr.inherit = 1;
    for (pid_t thread : threads) {
      long fd = ::syscall(SYS_perf_event_open, &attr, thread, -1, -1, PERF_FLAG_FD_CLOEXEC);
      if (fd >= 0) perf_.push_back(static_cast<int>(fd));
    }
    if (!perf_.empty()) return;
  }
}

void SyscallCounter::fork_tracer(const std::vector<pid_t>& threads) {
  void* page = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int ready[2];
  if (page == MAP_FAILED || ::pipe(ready) != 0) return;
  shared_ = new (page) Shared();
  ::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);  // where Yama lets nobody trace who is not an ancestor
  tracer_ = ::_Fork();                                   // not fork: what libraries do at forks is not for the tracer
  if (tracer_ == 0) trace(threads, ready[1], *shared_);
  ::close(ready[1]);
  char word;
  bool seized = tracer_ > 0 && ::read(ready[0], &word, 1) == 1;
  ::close(ready[0]);
  ::prctl(PR_SET_PTRACER, 0, 0, 0, 0);
  if (seized || tracer_ < 0) return;
  ::waitpid(tracer_, nullptr, 0);
  tracer_ = 0;
}

// Other threads may have held any lock when this process was forked: system calls only, no memory but what is there.
void SyscallCounter::trace(const std::vector<pid_t>& threads, int ready, Shared& shared) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  bool has_parent = ::getppid() != 1;
  for (pid_t thread : threads) {
    if (!has_parent || ::ptrace(PTRACE_SEIZE, thread, nullptr, kFollow) != 0) ::_exit(1);
    int status;
    ::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr);
    if (::waitpid(thread, &status, __WALL) == thread && WIFSTOPPED(status)) resume(thread, status);
  }
  [[maybe_unused]] ssize_t told = ::write(ready, "r", 1);
  ::syscall(SYS_close_range, 0, ~0U, 0);  // whoever waits for the end of a pipe shall not wait for this copy of it
  for (;;) {
    int status;
    pid_t task = ::waitpid(-1, &status, __WALL);
    if (task < 0 && errno != EINTR) ::_exit(0);  // nobody is left
    if (task < 0 || !WIFSTOPPED(status)) continue;
    if (WSTOPSIG(status) == kSyscallStop && shared.on.load(std::memory_order_acquire) && enters(task))
      shared.calls.fetch_add(1, std::memory_order_relaxed);
    resume(task, status);
  }
}

}  // namespace bench
