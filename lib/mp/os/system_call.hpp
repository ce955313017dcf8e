// A system call without the C library's syscall(): that lies in a part of the library which a fork child would have to map for it alone
// (3 us), and which a process that has slept for a while finds in no cache. For what such processes call; elsewhere syscall() does as well,
// and can be told by a tool (tests/valgrind) what the tool does not know.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <type_traits>

namespace mp::os {

namespace detail {

template <class T>
long as_register(T argument) noexcept {
  if constexpr (std::is_pointer_v<T>) return reinterpret_cast<long>(argument);
  else if constexpr (std::is_null_pointer_v<T>) return 0;
  else return static_cast<long>(argument);
}

// The kernel's answer: -errno where it refuses.
[[gnu::always_inline]] inline long enter_kernel(long number, long a, long b, long c, long d, long e, long f) noexcept {
#if defined(__x86_64__) && !defined(__ILP32__)
  long result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  register long x3 asm("x3") = d;
  register long x4 asm("x4") = e;
  register long x5 asm("x5") = f;
  asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
#else
  const long result = ::syscall(number, a, b, c, d, e, f);
  return result < 0 ? -errno : result;
#endif
}

}  // namespace detail

// As syscall(2): -1 with errno set where the kernel refuses. Up to six arguments, integers and pointers.
template <class... Arguments>
long system_call(long number, Arguments... arguments) noexcept {
  static_assert(sizeof...(arguments) <= 6);
  const long given[6] = {detail::as_register(arguments)...};
  const long result = detail::enter_kernel(number, given[0], given[1], given[2], given[3], given[4], given[5]);
  if (result >= 0) return result;
  errno = static_cast<int>(-result);
  return -1;
}

}  // namespace mp::os
