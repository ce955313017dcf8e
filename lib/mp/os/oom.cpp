#include "mp/os/oom.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "mp/os/call.hpp"

namespace mp::os {
namespace {

std::string contents(const char* path) {
  std::string text;
  UniqueFd fd(call_again(Call::open, [&] { return ::open(path, O_RDONLY | O_CLOEXEC); }));
  if (!fd) return text;
  char piece[1024];
  while (text.size() < 65536) {
    const ssize_t n = call_again(Call::read, [&] { return ::read(fd.get(), piece, sizeof piece); });
    if (n <= 0) break;
    text.append(piece, static_cast<std::size_t>(n));
  }
  return text;
}

bool readable(const std::string& file) {
  return call(Call::access, [&] { return ::access(file.c_str(), R_OK); }) == 0;
}

// Calls f(line) for each.
template <class F>
void each_line(std::string_view text, F&& f) {
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    f(text.substr(0, end));
    if (end == text.npos) return;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

std::string oom_counter_file(pid_t pid) noexcept {
  try {
    std::string unified, memory;  // the process's group in the hierarchy of v2, and in that of v1's memory controller
    const std::string groups = contents(("/proc/" + std::to_string(pid) + "/cgroup").c_str());
    each_line(groups, [&](std::string_view line) {  // "4:memory,cpu:/group", "0::/group"
      const std::size_t first = line.find(':'), second = line.find(':', first + 1);
      if (first == line.npos || second == line.npos) return;
      const std::string controllers = ',' + std::string(line.substr(first + 1, second - first - 1)) + ',';
      if (controllers == ",,") unified = line.substr(second + 1);
      else if (controllers.find(",memory,") != controllers.npos) memory = line.substr(second + 1);
    });
    // A container sees its own group as the root, whatever the path says of the host's.
    for (const std::string& group : {memory, std::string("/")}) {
      if (memory.empty()) break;
      if (std::string file = "/sys/fs/cgroup/memory" + group + "/memory.oom_control"; readable(file)) return file;
    }
    for (const std::string& group : {unified, std::string("/")}) {
      if (unified.empty()) break;
      if (std::string file = "/sys/fs/cgroup" + group + "/memory.events"; readable(file)) return file;
    }
  } catch (...) {  // no memory for a path: then no counter
  }
  return {};
}

OomCounter OomCounter::of(pid_t pid) noexcept {
  std::string file = oom_counter_file(pid);
  return file.empty() ? OomCounter() : OomCounter(file);
}

OomCounter::OomCounter(const std::string& file) noexcept
    : fd_(UniqueFd(call_again(Call::open, [&] { return ::open(file.c_str(), O_RDONLY | O_CLOEXEC); }))) {
  try {
    file_ = file;
  } catch (...) {  // then its name is not told
  }
}

std::optional<std::uint64_t> OomCounter::read() const noexcept {
  if (!*this) return std::nullopt;
  char text[1024];
  const ssize_t n = call_again(Call::read, [&] { return ::pread(fd_.get(), text, sizeof text - 1, 0); });
  if (n <= 0) return std::nullopt;
  text[n] = 0;
  std::optional<std::uint64_t> count;
  each_line({text, static_cast<std::size_t>(n)}, [&](std::string_view line) {
    constexpr std::string_view name = "oom_kill ";
    if (line.starts_with(name)) count = std::strtoull(line.data() + name.size(), nullptr, 10);
  });
  return count;
}

}  // namespace mp::os
