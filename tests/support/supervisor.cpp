#include "supervisor.hpp"

#include <dirent.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "stacks.hpp"

namespace test {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

// The library promises a second; the other one is for a busy machine.
constexpr auto kGrace = 2s;

struct Running {
  pid_t pid;
  pid_t parent;
  char state;
};

std::vector<Running> all_processes() {
  std::vector<Running> found;
  DIR* proc = ::opendir("/proc");
  if (proc == nullptr) return found;
  while (const dirent* entry = ::readdir(proc)) {
    const pid_t pid = std::atoi(entry->d_name);
    if (pid <= 0) continue;
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string line;
    if (!std::getline(file, line)) continue;
    const auto end_of_name = line.rfind(')');  // the name itself may hold anything
    if (end_of_name == std::string::npos) continue;
    Running process{pid, 0, 0};
    std::istringstream(line.substr(end_of_name + 1)) >> process.state >> process.parent;
    found.push_back(process);
  }
  ::closedir(proc);
  return found;
}

// Alive, below this process, parents before children.
std::vector<pid_t> descendants() {
  const auto all = all_processes();
  std::vector<pid_t> found{::getpid()};
  for (std::size_t i = 0; i < found.size(); ++i)
    for (const Running& process : all)
      if (process.parent == found[i] && process.state != 'Z') found.push_back(process.pid);
  found.erase(found.begin());
  return found;
}

std::string command_line(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/cmdline");
  std::string text, word;
  while (std::getline(file, word, '\0')) text += (text.empty() ? "" : " ") + word;
  return text.empty() ? "?" : text;
}

std::set<std::string> shared_memory_names() {
  std::set<std::string> names;
  DIR* directory = ::opendir("/dev/shm");
  if (directory == nullptr) return names;
  while (const dirent* entry = ::readdir(directory))
    if (entry->d_name[0] != '.') names.insert(entry->d_name);
  ::closedir(directory);
  return names;
}

// Whether some process has the object open or mapped. Other test programs run beside this one, and a name that one of
// them is using is not left over.
bool is_in_use(const std::string& name) {
  const std::string path = "/dev/shm/" + name;
  struct stat wanted;
  if (::stat(path.c_str(), &wanted) != 0) return true;  // gone meanwhile
  for (const Running& process : all_processes()) {
    const std::string base = "/proc/" + std::to_string(process.pid);
    std::ifstream maps(base + "/maps");
    for (std::string line; std::getline(maps, line);)
      if (line.ends_with(path)) return true;
    DIR* fds = ::opendir((base + "/fd").c_str());
    if (fds == nullptr) continue;
    bool found = false;
    while (const dirent* entry = ::readdir(fds)) {
      struct stat other;
      if (::fstatat(::dirfd(fds), entry->d_name, &other, 0) == 0 && other.st_dev == wanted.st_dev &&
          other.st_ino == wanted.st_ino)
        found = true;
    }
    ::closedir(fds);
    if (found) return true;
  }
  return false;
}

std::vector<std::string> left_names(const std::set<std::string>& before) {
  std::vector<std::string> left;
  for (const std::string& name : shared_memory_names())
    if (!before.contains(name) && !is_in_use(name)) left.push_back(name);
  return left;
}

// Whether this process has any child, dead or alive. With orphans coming here, that is: whether any descendant is left,
// without the gaps that walking through /proc has.
bool has_children() { return ::waitid(P_ALL, 0, nullptr, WEXITED | WNOHANG | WNOWAIT) == 0; }

// Reaps whoever has died. The status of `wanted` if it is among them.
std::optional<int> reap(pid_t wanted) {
  std::optional<int> found;
  int status = 0;
  for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;)
    if (pid == wanted) found = status;
  return found;
}

// Children that die make orphans, which come here: again until nobody is left.
void kill_descendants() {
  for (int round = 0; round < 100; ++round) {
    reap(0);
    if (!has_children()) break;
    for (pid_t pid : descendants()) ::kill(pid, SIGKILL);
    ::usleep(10'000);
  }
}

// The time for the tests: Meson's limit less what the stacks of a full house need.
Clock::duration time_limit() {
  const char* text = std::getenv("MP_TEST_TIMEOUT");
  if (text == nullptr) return 24h;
  const double seconds = std::atof(text);
  return std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(seconds - std::min(10.0, seconds / 4)));
}

int exit_status(int status) {
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  std::cerr << "the tests' process was killed by signal " << WTERMSIG(status) << " (" << ::strsignal(WTERMSIG(status))
            << ")\n";
  return 1;
}

}  // namespace

int supervise(const std::function<int()>& tests) {
  const auto names_before = shared_memory_names();
  const auto deadline = Clock::now() + time_limit();
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);

  sigset_t watched, original;
  ::sigemptyset(&watched);
  for (int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&watched, signal);
  ::sigprocmask(SIG_BLOCK, &watched, &original);

  const pid_t supervisor = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) {
    std::perror("fork");
    return 1;
  }
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != supervisor) ::_exit(1);
    ::sigprocmask(SIG_SETMASK, &original, nullptr);
    std::exit(tests());
  }

  std::optional<int> ended;
  while (!(ended = reap(child))) {
    const auto remaining = deadline - Clock::now();
    if (remaining <= 0s) {
      std::cerr << "watchdog: the tests took longer than MP_TEST_TIMEOUT allows; all processes:\n";
      for (pid_t pid : descendants()) {
        std::cerr << "process " << pid << ": " << command_line(pid) << '\n';
        print_stacks(pid, std::cerr);
      }
      kill_descendants();
      return 1;
    }
    const auto whole = std::chrono::duration_cast<std::chrono::seconds>(remaining);
    const timespec time{whole.count(), std::chrono::duration_cast<std::chrono::nanoseconds>(remaining - whole).count()};
    const int signal = ::sigtimedwait(&watched, nullptr, &time);
    if (signal > 0 && signal != SIGCHLD) {
      kill_descendants();
      return 128 + signal;
    }
  }
  int result = exit_status(*ended);
  reap(0);

  const auto patience = Clock::now() + kGrace;
  auto names = left_names(names_before);
  while ((has_children() || !names.empty()) && Clock::now() < patience) {
    ::usleep(10'000);
    reap(0);
    names = left_names(names_before);
  }
  reap(0);
  if (has_children()) result = 1;
  for (pid_t pid : descendants()) {
    std::cerr << "hygiene: process " << pid << " was left running: " << command_line(pid) << '\n';
    print_stacks(pid, std::cerr);
  }
  for (const std::string& name : names) {
    std::cerr << "hygiene: /dev/shm/" << name << " was left (by this program or one that ran beside it)\n";
    result = 1;
  }
  kill_descendants();
  return result;
}

}  // namespace test
