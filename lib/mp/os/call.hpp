// The one seam of system calls: every call the library makes of the kernel and that can fail passes here, so that a test can make any
// of them fail (EINTR, EAGAIN, ENOMEM, ENOSPC, EMFILE) without a kernel that does. tests/structure/seam.sh knows the exceptions.
// Nothing is retried or thrown here:
// the caller knows what the errno means for it. Technique of fmt's posix-mock.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>

namespace mp::os {

enum class Call : std::uint8_t {
  access,
  dup,
  eventfd,
  fallocate,
  fchmod,
  fcntl,
  fork,
  fstat,
  ftruncate,
  futex,
  futex_waitv,
  futex_wake,
  getaffinity,
  getrandom,
  getrlimit,
  ioctl,
  kill,
  link,
  madvise,
  membarrier,
  memfd_create,
  mincore,
  mmap,
  open,
  pidfd_open,
  pipe,
  poll,
  read,
  readlink,
  setrlimit,
  shm_open,
  shm_unlink,
  sigwait,
  spawn,
  stat,
  statvfs,
  thread,
  waitid,
  write,
};
inline constexpr int kCalls = static_cast<int>(Call::write) + 1;

// Asked before each call: the errno to fail with, or 0 to let the call through. Set by tests only.
using FaultHook = int (*)(Call) noexcept;
inline std::atomic<FaultHook> fault_hook{nullptr};

// Makes the call `f()` unless the hook refuses it; -1 with errno set then, as from the kernel.
template <class F>
auto call(Call which, F&& f) noexcept -> decltype(f()) {
  if (FaultHook hook = fault_hook.load(std::memory_order_relaxed)) [[unlikely]] {
    if (int error = hook(which)) {
      errno = error;
      return static_cast<decltype(f())>(-1);
    }
  }
  return f();
}

// The same, again while a signal interrupts it.
template <class F>
auto call_again(Call which, F&& f) noexcept -> decltype(f()) {
  for (;;) {
    auto result = call(which, f);
    if (result != static_cast<decltype(f())>(-1) || errno != EINTR) return result;
  }
}

}  // namespace mp::os
