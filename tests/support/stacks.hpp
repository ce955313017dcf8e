// The stacks of another process, with symbols, as far as the kernel lets us look (the caller must be allowed to trace it;
// a process that somebody else is tracing shows only where it waits in the kernel).
#pragma once

#include <sys/types.h>

#include <iosfwd>

namespace test {

void print_stacks(pid_t pid, std::ostream& out);

}  // namespace test
