#include "mp/os/limit.hpp"

#include <sys/resource.h>

#include <cerrno>

#include "mp/os/call.hpp"

namespace mp::os {
namespace {

std::string value_of(decltype(RLIMIT_NOFILE) limit) {
  rlimit now{};
  if (call_again(Call::getrlimit, [&] { return ::getrlimit(limit, &now); }) != 0) return "not known";
  return now.rlim_cur == RLIM_INFINITY ? "unlimited" : std::to_string(now.rlim_cur);
}

// Nothing where there is nothing to say beyond the reason.
std::string limit_met(int error, const std::string& call) {
  const bool makes_process = call == "fork" || call == "posix_spawn" || call == "pthread_create";
  switch (error) {
    case EMFILE:
      return "RLIMIT_NOFILE, the descriptors of a process, is " + value_of(RLIMIT_NOFILE) + "; ulimit -n raises it";
    case ENFILE: return "the descriptors of the whole machine; sysctl fs.file-max raises it";
    case EAGAIN:
      if (!makes_process) return {};
      return "RLIMIT_NPROC, the processes and threads of a user, is " + value_of(RLIMIT_NPROC) +
             "; ulimit -u raises it; the pids.max of a container or service may be lower";
    case ENOMEM:
      if (call != "mmap" && !makes_process) return {};
      return "RLIMIT_AS, the address space of a process, is " + value_of(RLIMIT_AS) +
             "; ulimit -v raises it; else memory is short, or vm.max_map_count or vm.overcommit_memory forbids it";
    case ENOSPC: return makes_process ? "the family's shared memory is full" : "";
    case EPERM:
    case ENOSYS: return "a seccomp filter forbids it, or the kernel is too old for it (Linux 5.10 has it)";
    default: return {};
  }
}

}  // namespace

OSError refused(int error, const std::string& call, const std::string& object) {
  const std::string limit = limit_met(error, call);
  return limit.empty() ? OSError(error, call, object) : OSError(error, call, object, limit);
}

}  // namespace mp::os
