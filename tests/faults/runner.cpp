#include "runner.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <new>

#include "stacks.hpp"

namespace faults {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

std::string contents(int fd) {
  std::string text(static_cast<std::size_t>(::lseek(fd, 0, SEEK_END)), '\0');
  const ssize_t n = ::pread(fd, text.data(), text.size(), 0);
  text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return text;
}

// Whether `pid` ended in time; its status then.
bool ends(pid_t pid, int& status, Clock::time_point deadline) {
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0) std::perror("pidfd_open"), std::abort();
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd p{fd, POLLIN, 0};
    const int ready = ::poll(&p, 1, left > 0 ? static_cast<int>(left) : 0);
    if (ready < 0 && errno == EINTR) continue;
    ::close(fd);
    return ready > 0 && ::waitpid(pid, &status, 0) == pid;
  }
}

void print_stacks_of_group(pid_t group) {
  DIR* proc = ::opendir("/proc");
  if (proc == nullptr) return;
  while (const dirent* entry = ::readdir(proc)) {
    const pid_t pid = std::atoi(entry->d_name);
    if (pid <= 0 || ::getpgid(pid) != group) continue;
    std::cerr << "process " << pid << '\n';
    test::print_stacks(pid, std::cerr);
  }
  ::closedir(proc);
}

// Whether no child is left, nor any orphan, which come to us.
bool all_gone() {
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {}
  return ::waitpid(-1, nullptr, WNOHANG) < 0;
}

}  // namespace

Ended run_victim(const std::string& program, const std::function<int()>& before) {
  const std::string file = victim_file();
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const int output = ::memfd_create("output", MFD_CLOEXEC);
  std::cout.flush();
  const pid_t pid = ::fork();
  if (pid < 0) std::perror("fork"), std::abort();
  if (pid == 0) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(output, 1);
    ::dup2(output, 2);
    if (before)
      if (int refused = before()) ::_exit(refused);
    ::execl(file.c_str(), file.c_str(), program.c_str(), nullptr);
    std::perror(file.c_str());
    ::_exit(127);
  }
  ::setpgid(pid, pid);
  Ended ended;
  int status = 0;
  if (!ends(pid, status, Clock::now() + kDeadline)) {
    ended.hung = true;
    std::cerr << "victim " << program << " hangs, process " << pid << " and the others of its group:\n";
    print_stacks_of_group(pid);
    ::kill(-pid, SIGKILL);
    ::waitpid(pid, &status, 0);
  }
  ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  for (const auto patience = Clock::now() + 2s; !all_gone();) {
    if (Clock::now() > patience) {
      ended.orphans = true;
      print_stacks_of_group(pid);
      ::kill(-pid, SIGKILL);
      while (::waitpid(-1, nullptr, 0) > 0) {}
      break;
    }
    ::usleep(200);
  }
  ended.output = contents(output);
  ::close(output);
  return ended;
}

std::string victim_file() {
  char path[4096];
  const ssize_t n = ::readlink("/proc/self/exe", path, sizeof path);
  const std::string self(path, n > 0 ? static_cast<std::size_t>(n) : 0);
  return self.substr(0, self.rfind('/')) + "/faults/victim";
}

std::string name_of(mp::os::Call call) { return kCallNames[static_cast<int>(call)]; }

SharedPlan::SharedPlan() : fd_(::memfd_create("plan", MFD_CLOEXEC)) {
  void* place = fd_ < 0 || ::ftruncate(fd_, sizeof(Plan)) != 0
                    ? MAP_FAILED
                    : ::mmap(nullptr, sizeof(Plan), PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (place == MAP_FAILED) std::perror("a plan"), std::abort();
  plan_ = new (place) Plan{};
  const std::string path = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd_);
  ::setenv(kPlanVariable, path.c_str(), 1);
}

SharedPlan::~SharedPlan() {
  ::unsetenv(kPlanVariable);
  ::munmap(static_cast<void*>(plan_), sizeof(Plan));
  ::close(fd_);
}

}  // namespace faults
