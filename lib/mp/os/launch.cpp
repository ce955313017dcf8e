#include "mp/os/launch.hpp"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "mp/errors.hpp"
#include "mp/os/call.hpp"
#include "mp/os/limit.hpp"

namespace mp::os {
namespace {

constexpr const char* kMark = "--multiprocessing-fork";

struct Actions {
  posix_spawn_file_actions_t list;
  Actions() { ::posix_spawn_file_actions_init(&list); }
  ~Actions() { ::posix_spawn_file_actions_destroy(&list); }
};

// What the program was executed with, told by the C library before anything else of it runs. No file of /proc: where there is none, a
// child would take itself for the program, and start children that do the same.
constinit std::optional<Birth> noted;

[[gnu::constructor(101)]] void note_birth(int argc, char** argv, char**) {
  if (argc != 4 || std::string_view(argv[1]) != kMark) return;
  char *fd_end, *tag_end;
  const long number = std::strtol(argv[2], &fd_end, 10);
  const unsigned long tag = std::strtoul(argv[3], &tag_end, 10);
  if (*fd_end || *tag_end || number < 0 || number > 1 << 20 || tag > 0x7fffffff) return;
  noted = Birth{static_cast<int>(number), static_cast<std::uint32_t>(tag)};
}

}  // namespace

pid_t launch(const std::string& program, int shared_fd, std::uint32_t tag) {
  Actions actions;
  int error = ::posix_spawn_file_actions_adddup2(&actions.list, shared_fd, kInheritedFd);
  if (error == 0) error = ::posix_spawn_file_actions_addclosefrom_np(&actions.list, kInheritedFd + 1);
  // EBADF: those numbers are beyond what may be open.
  if (error != 0) throw refused(error == EBADF ? EMFILE : error, "posix_spawn", program);
  std::string fd = std::to_string(kInheritedFd), member = std::to_string(tag);
  char* argv[] = {::program_invocation_name, const_cast<char*>(kMark), fd.data(), member.data(), nullptr};
  pid_t pid = -1;
  // posix_spawn returns its errno; the seam speaks -1 and errno.
  int result = call_again(Call::spawn, [&] {
    int e = ::posix_spawn(&pid, program.c_str(), &actions.list, nullptr, argv, ::environ);
    if (e != 0) errno = e;
    return e == 0 ? 0 : -1;
  });
  if (result != 0) throw refused(errno, "posix_spawn", program);
  return pid;
}

std::optional<Birth> birth() noexcept {
  // Where the descriptor is none, whoever maps it says so.
  static const bool closed [[maybe_unused]] =
      noted && call_again(Call::fcntl, [] { return ::fcntl(noted->fd, F_SETFD, FD_CLOEXEC); }) == 0;
  return noted;
}

}  // namespace mp::os
