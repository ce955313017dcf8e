// Executing a program afresh as a member of the family, and how the new process recognises that it is one: by its
// arguments, `--multiprocessing-fork FD TAG`. No secret is in them: FD is the arena, which only an heir can have open.
//
// posix_spawn(3), not Boost.Process v2: its vfork launcher (1.81 and 1.83) runs Asio's fork notification in the memory it
// shares with the parent and calls exit(), the parent's handlers and all, when exec fails; its default launcher is a
// plain fork, which copies page tables (44 ms per GiB) and runs every fork handler for nothing.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

namespace mp::os {

// The number under which an executed child finds the arena. It inherits standard input, output and error, and nothing else.
inline constexpr int kInheritedFd = 3;

// Executes `program` with `shared_fd` as kInheritedFd and `tag` in its arguments. Throws OSError (ENOENT, EAGAIN, ...),
// also when the file cannot be executed. The child keeps the caller's signal mask, environment and working directory.
pid_t launch(const std::string& program, int shared_fd, std::uint32_t tag);

struct Birth {
  int fd;
  std::uint32_t tag;
};

// How this process was executed: by launch(), or (nothing) by anybody else. Works before main as well, in every constructor but
// those of priority 101. The arena is close-on-exec from then on.
std::optional<Birth> birth() noexcept;

}  // namespace mp::os
