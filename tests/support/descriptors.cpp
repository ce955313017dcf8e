#include "descriptors.hpp"

#include <dirent.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>

namespace test {

std::map<int, std::string> open_descriptors() {
  std::map<int, std::string> found;
  DIR* directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) return found;
  while (const dirent* entry = ::readdir(directory)) {
    if (entry->d_name[0] == '.') continue;
    const int fd = std::atoi(entry->d_name);
    if (fd == ::dirfd(directory)) continue;
    char target[PATH_MAX];
    const ssize_t size = ::readlinkat(::dirfd(directory), entry->d_name, target, sizeof target);
    found[fd] = size < 0 ? "?" : std::string(target, static_cast<std::size_t>(size));
  }
  ::closedir(directory);
  return found;
}

}  // namespace test
