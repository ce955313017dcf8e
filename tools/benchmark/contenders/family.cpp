#include "family.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

namespace bench {
namespace {

std::uint64_t field_of(const std::string& file, const std::string& field) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(field + ":")) return std::stoull(line.substr(field.size() + 1)) * 1024;
  return 0;
}

template <class Each>
void for_threads(pid_t pid, Each&& each) {
  std::error_code gone;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task", gone))
    each(thread.path().string());
}

}  // namespace

std::vector<pid_t> descendants(pid_t of) {
  std::vector<pid_t> all;
  for_threads(of, [&](const std::string& thread) {
    std::ifstream children(thread + "/children");
    for (pid_t child; children >> child;) {
      all.push_back(child);
      for (pid_t further : descendants(child)) all.push_back(further);
    }
  });
  return all;
}

std::uint64_t smaps(pid_t pid, const std::string& field) {
  return field_of("/proc/" + std::to_string(pid) + "/smaps_rollup", field);
}

std::uint64_t family_memory() {
  std::uint64_t bytes = smaps(::getpid(), "Pss_Anon");
  for (pid_t pid : descendants(::getpid())) bytes += smaps(pid, "Pss_Anon");
  std::set<ino_t> seen;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    auto name = std::filesystem::read_symlink(entry.path(), gone).string();
    if (!name.starts_with("/dev/shm/") && !name.starts_with("/memfd:")) continue;
    struct stat object;
    if (::stat(entry.path().c_str(), &object) == 0 && seen.insert(object.st_ino).second)
      bytes += static_cast<std::uint64_t>(object.st_blocks) * 512;
  }
  return bytes;
}

std::uint64_t cpu_time(const std::vector<pid_t>& pids) {
  std::uint64_t total = 0;
  const std::string own = "/" + std::to_string(::gettid());
  for (pid_t pid : pids) {
    for_threads(pid, [&](const std::string& thread) {
      if (thread.ends_with(own)) return;
      std::uint64_t used = 0;
      if (std::ifstream(thread + "/schedstat") >> used) total += used;
    });
  }
  return total;
}

std::uint64_t available_memory() { return field_of("/proc/meminfo", "MemAvailable"); }

}  // namespace bench
