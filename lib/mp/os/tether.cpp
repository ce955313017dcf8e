#include "mp/os/tether.hpp"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <mutex>

#include "mp/errors.hpp"
#include "mp/os/call.hpp"
#include "mp/os/fd.hpp"
#include "mp/os/fork_page.hpp"
#include "mp/os/life.hpp"
#include "mp/os/limit.hpp"
#include "mp/os/private_fd.hpp"

namespace mp::os {
namespace {

// Written under `making`; read in fork children, where no other thread lives.
MP_FORK_PAGE int read_end = -1, write_end = -1;
MP_FORK_PAGE std::mutex making;

}  // namespace

int tether_end() {
  std::lock_guard guard(making);
  if (read_end < 0) {
    int ends[2];
    if (call_again(Call::pipe, [&] { return ::pipe2(ends, O_CLOEXEC | O_NONBLOCK); }) != 0)
      throw refused(errno, "pipe2", "for the tether that ends children with their parent");
    // As the children will; where that fails, so will they, and could tell nobody.
    const std::string path = "/proc/self/fd/" + std::to_string(ends[0]);
    UniqueFd tried(call_again(Call::open, [&] { return ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC); }));
    if (!tried) {
      const int error = errno;
      ::close(ends[0]);
      ::close(ends[1]);
      throw refused(error, "open", path + ", the tether that ends children with their parent; is /proc mounted?");
    }
    write_end = ends[1];
    read_end = ends[0];
  }
  return read_end;
}

bool tether_to(pid_t holder, int end) {
  char path[48];
  std::snprintf(path, sizeof path, "/proc/%d/fd/%d", static_cast<int>(holder), end);
  UniqueFd fd(call_again(Call::open, [&] { return ::open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); }));
  if (!fd) {
    const int error = errno;
    if ((error == ENOENT || error == ESRCH) && exiting(holder)) return false;
    throw refused(error, "open", std::string(path) + ", the tether that ends a child with its parent");
  }
  auto set = [&](int command, int value) {
    if (call_again(Call::fcntl, [&] { return ::fcntl(fd.get(), command, value); }) != 0)
      throw OSError(errno, "fcntl", "of the tether");
  };
  set(F_SETOWN, ::getpid());
  set(F_SETSIG, SIGKILL);
  set(F_SETFL, O_ASYNC | O_NONBLOCK);
  char byte;
  ssize_t n = call_again(Call::read, [&] { return ::read(fd.get(), &byte, 1); });
  if (n >= 0) return false;    // end of file: the holder died while we took hold
  make_private(fd.release());  // held until we die, by us alone
  return true;
}

[[gnu::hot]] void tether_after_fork() noexcept {
  if (read_end < 0) return;
  ::close(read_end);
  ::close(write_end);
  read_end = write_end = -1;
  // The mutex may have been held by a thread that does not exist here.
  new (&making) std::mutex;
}

}  // namespace mp::os
