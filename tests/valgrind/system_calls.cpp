// System calls that valgrind 3.19 refuses since it does not know them, made by the real CPU instead: without descriptors of processes
// the library starts none. Preloaded into what run.sh runs; takes the place of the C library's syscall(), through which the library
// makes the calls for which there is no wrapper (but those of os/system_call.hpp, which valgrind knows). Not among them is futex_waitv: asleep in it, a process would keep all its threads from
// running, so there the library falls back as it does on an old kernel.
#include <dlfcn.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <valgrind/valgrind.h>

#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstring>

#include "mp/os/system_call.hpp"

namespace {

// Also run by the real CPU, where nothing of the thread's own memory is to be had: no errno, no stack protector.
[[gnu::noinline, gnu::no_stack_protector]] long kernel(long number, long a, long b, long c, long d, long e, long f) {
  return mp::os::detail::enter_kernel(number, a, b, c, d, e, f);
}

[[gnu::no_stack_protector]] long open_pidfd(long, long pid, long flags) {
  return kernel(SYS_pidfd_open, pid, flags, 0, 0, 0, 0);
}

[[gnu::no_stack_protector]] long send_signal(long, const long* arguments) {
  return kernel(SYS_pidfd_send_signal, arguments[0], arguments[1], arguments[2], arguments[3], 0, 0);
}

}  // namespace

extern "C" long syscall(long number, ...) noexcept {
  long a[6];
  va_list list;
  va_start(list, number);
  for (long& argument : a) argument = va_arg(list, long);
  va_end(list);
  long result;
  if (number == SYS_pidfd_open) result = static_cast<long>(VALGRIND_NON_SIMD_CALL2(open_pidfd, a[0], a[1]));
  else if (number == SYS_pidfd_send_signal) result = static_cast<long>(VALGRIND_NON_SIMD_CALL1(send_signal, a));
  else result = kernel(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  if (result >= 0 || result < -4095) return result;
  errno = static_cast<int>(-result);
  return -1;
}

// The program that /proc/self/exe is, is valgrind; only readlink() is told otherwise.
extern "C" int posix_spawn(pid_t* pid, const char* program, const posix_spawn_file_actions_t* actions,
                           const posix_spawnattr_t* attributes, char* const argv[], char* const env[]) {
  char own[PATH_MAX] = {};
  if (std::strcmp(program, "/proc/self/exe") == 0 && ::readlink(program, own, sizeof own - 1) > 0) program = own;
  static const auto next = reinterpret_cast<decltype(&posix_spawn)>(::dlsym(RTLD_NEXT, "posix_spawn"));
  return next(pid, program, actions, attributes, argv, env);
}
