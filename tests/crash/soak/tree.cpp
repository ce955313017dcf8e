#include "tree.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

namespace soak {
namespace {

struct Living {
  pid_t pid, parent;
};

// False where it is gone or a zombie.
bool read_parent(const char* name, Living& process) {
  char path[64], text[512];
  std::snprintf(path, sizeof path, "/proc/%s/stat", name);
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const ssize_t size = ::read(fd, text, sizeof text - 1);
  ::close(fd);
  if (size <= 0) return false;
  text[size] = 0;
  const char* after = std::strrchr(text, ')');  // the name may contain anything
  char state = 0;
  int parent = 0;
  if (!after || std::sscanf(after + 1, " %c %d", &state, &parent) != 2 || state == 'Z' || state == 'X') return false;
  process.parent = parent;
  return true;
}

std::vector<Living> all() {
  std::vector<Living> found;
  DIR* directory = ::opendir("/proc");
  if (!directory) return found;
  while (const dirent* entry = ::readdir(directory)) {
    const char* name = entry->d_name;
    Living process{};
    const auto [end, error] = std::from_chars(name, name + std::strlen(name), process.pid);
    if (error == std::errc() && *end == 0 && read_parent(name, process)) found.push_back(process);
  }
  ::closedir(directory);
  return found;
}

}  // namespace

std::vector<pid_t> below(pid_t top) {
  const std::vector<Living> living = all();
  std::vector<pid_t> found{top};
  for (std::size_t i = 0; i < found.size(); ++i)
    for (const Living& process : living)
      if (process.parent == found[i] && process.pid != top) found.push_back(process.pid);
  found.erase(found.begin());
  return found;
}

bool is_doomed(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  constexpr unsigned long long kKill = 1ull << (SIGKILL - 1);
  for (std::string line; std::getline(status, line);)
    if ((line.starts_with("SigPnd:") || line.starts_with("ShdPnd:")) &&
        std::stoull(line.substr(7), nullptr, 16) & kKill)
      return true;
  return false;
}

void reap_others(pid_t keep) {
  for (;;) {
    siginfo_t who{};
    // Looked at first: the one to keep stays to be waited for.
    if (::waitid(P_ALL, 0, &who, WEXITED | WNOHANG | WNOWAIT) != 0 || who.si_pid == 0) return;
    if (who.si_pid == keep) return;
    ::waitpid(who.si_pid, nullptr, 0);
  }
}

}  // namespace soak
