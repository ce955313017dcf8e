#include "mp/os/launch.hpp"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "mp/errors.hpp"
#include "mp/os/call.hpp"

namespace mp::os {
namespace {

constexpr const char* kMark = "--multiprocessing-fork";

struct Actions {
  posix_spawn_file_actions_t list;
  Actions() { ::posix_spawn_file_actions_init(&list); }
  ~Actions() { ::posix_spawn_file_actions_destroy(&list); }
};

std::optional<Birth> read_birth() noexcept {
  int fd = call_again(Call::open, [] { return ::open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC); });
  if (fd < 0) return std::nullopt;
  // argv[0] may be long: the mark is looked for from the end.
  char text[8192];
  ssize_t size = call_again(Call::read, [&] { return ::read(fd, text, sizeof text); });
  ::close(fd);
  if (size <= 0 || size == sizeof text || text[size - 1] != 0) return std::nullopt;
  std::string_view words[4];
  int count = 0;
  for (const char* p = text; p < text + size; p += words[count - 1].size() + 1) {
    if (count == 4) return std::nullopt;
    words[count++] = p;
  }
  if (count != 4 || words[1] != kMark) return std::nullopt;
  char *fd_end, *tag_end;
  long number = std::strtol(words[2].data(), &fd_end, 10);
  unsigned long tag = std::strtoul(words[3].data(), &tag_end, 10);
  if (*fd_end || *tag_end || number < 0 || number > 1 << 20 || tag > 0x7fffffff) return std::nullopt;
  if (call_again(Call::fcntl, [&] { return ::fcntl(static_cast<int>(number), F_SETFD, FD_CLOEXEC); }) != 0)
    return std::nullopt;
  return Birth{static_cast<int>(number), static_cast<std::uint32_t>(tag)};
}

}  // namespace

pid_t launch(const std::string& program, int shared_fd, std::uint32_t tag) {
  Actions actions;
  int error = ::posix_spawn_file_actions_adddup2(&actions.list, shared_fd, kInheritedFd);
  if (error == 0) error = ::posix_spawn_file_actions_addclosefrom_np(&actions.list, kInheritedFd + 1);
  if (error != 0) throw OSError(error, "posix_spawn_file_actions");
  std::string fd = std::to_string(kInheritedFd), member = std::to_string(tag);
  char* argv[] = {::program_invocation_name, const_cast<char*>(kMark), fd.data(), member.data(), nullptr};
  pid_t pid = -1;
  // posix_spawn returns its errno; the seam speaks -1 and errno.
  int result = call(Call::spawn, [&] {
    int e = ::posix_spawn(&pid, program.c_str(), &actions.list, nullptr, argv, ::environ);
    if (e != 0) errno = e;
    return e == 0 ? 0 : -1;
  });
  if (result != 0) throw OSError(errno, "posix_spawn", program);
  return pid;
}

std::optional<Birth> birth() noexcept {
  static const std::optional<Birth> mine = read_birth();
  return mine;
}

}  // namespace mp::os
