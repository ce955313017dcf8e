#include "mp/pool/limits.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "mp/errors.hpp"
#include "mp/os/call.hpp"
#include "mp/os/fd.hpp"
#include "mp/pool/task_board.hpp"
#include "mp/pool/worker.hpp"
#include "mp/process/child.hpp"

namespace mp::pool {
namespace {

// Of a worker, once it has run a task with limits. Used by its main thread and its handlers.
struct Imposed {
  WorkerEntry* entry = nullptr;
  bool memory = false, file_size = false;
  rlimit memory_before{}, file_size_before{};
  std::new_handler handler_before = nullptr;
  std::uint64_t data_then = 0;   // bytes, when the task began
  std::uint64_t refused_at = 0;  // bytes beyond that, when memory was refused
  bool refused = false;
};
Imposed imposed;

// Bytes of private writable memory; the stack's are in it.
std::uint64_t data_now() {
  os::UniqueFd fd(os::call_again(os::Call::open, [] { return ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC); }));
  char text[256];
  const ssize_t n =
      fd ? os::call_again(os::Call::read, [&] { return ::read(fd.get(), text, sizeof text - 1); }) : ssize_t{-1};
  if (n <= 0) throw OSError(errno, "read", "/proc/self/statm, to limit a task's memory");
  text[n] = 0;
  // size resident shared text lib data dt, in pages
  const char* at = text;
  for (int field = 0; field < 5; ++field) {
    while (*at && *at != ' ') ++at;
    while (*at == ' ') ++at;
  }
  static const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return std::strtoull(at, nullptr, 10) * page;
}

std::uint64_t cpu_time_now() noexcept {
  timespec t{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
}

// Sets the soft limit, no higher than it was.
void set_limit(__rlimit_resource which, const rlimit& before, std::uint64_t bytes, const char* what) {
  const rlimit wanted{std::min<rlim_t>(bytes, before.rlim_cur), before.rlim_max};
  if (os::call(os::Call::setrlimit, [&] { return ::setrlimit(which, &wanted); }) != 0)
    throw OSError(errno, "setrlimit", what);
}

rlimit limit_now(__rlimit_resource which) {
  rlimit now{};
  if (os::call(os::Call::setrlimit, [&] { return ::getrlimit(which, &now); }) != 0)
    throw OSError(errno, "getrlimit", "of a worker");
  return now;
}

// What `new` calls when it gets no memory.
void on_refused() {
  imposed.refused = true;
  try {
    const std::uint64_t now = data_now();
    imposed.refused_at = now > imposed.data_then ? now - imposed.data_then : 0;
  } catch (const OSError&) {
    imposed.refused_at = 0;
  }
  if (imposed.handler_before == nullptr) throw std::bad_alloc();
  imposed.handler_before();  // may find some and return, then `new` tries again
}

// The supervisor's order to end, or the kernel's word that a limit is passed.
void on_limit(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  if (signal == SIGXCPU && info->si_code <= 0) {
    // An order is for one attempt, and for the thread that runs it: it cannot be on to the next while it is here.
    const std::uint64_t since = imposed.entry->since.load(std::memory_order_acquire);
    const bool meant = since != 0 && imposed.entry->ordered.load(std::memory_order_acquire) == since;
    if (!meant || ::syscall(SYS_gettid) != ::getpid()) {
      errno = error;
      return;
    }
  }
  process::crash_by(signal, info, context, false);
}

// Where nobody else has one.
void install(int signal) {
  struct sigaction present{}, action{};
  ::sigaction(signal, nullptr, &present);
  if ((present.sa_flags & SA_SIGINFO) || present.sa_handler != SIG_DFL) return;
  action.sa_sigaction = on_limit;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  ::sigaction(signal, &action, nullptr);
}

CrashDetails passed(Limit limit, std::uint64_t allowed, std::uint64_t used) {
  CrashDetails details;
  details.limit = limit;
  details.allowed = allowed;
  details.used = used;
  details.pid = ::getpid();
  if (const process::Record* me = process::own_record()) details.worker = me->name;
  if (const WorkerEntry* entry = this_worker())
    if (const std::uint64_t item = entry->item.load(std::memory_order_relaxed)) details.item = item - 1;
  details.usage = os::usage_now();
  return details;
}

void lift_resources() noexcept {
  if (imposed.memory) {
    os::call(os::Call::setrlimit, [] { return ::setrlimit(RLIMIT_DATA, &imposed.memory_before); });
    std::set_new_handler(imposed.handler_before);
    imposed.memory = false;
  }
  if (imposed.file_size) {
    os::call(os::Call::setrlimit, [] { return ::setrlimit(RLIMIT_FSIZE, &imposed.file_size_before); });
    imposed.file_size = false;
  }
}

}  // namespace

Limits limits_of(const Timeout& timeout, const TaskLimits& limits) noexcept {
  const auto ns = [](const Timeout& t) {
    return t.forever() ? 0 : static_cast<std::uint64_t>(std::max<std::int64_t>(1, t.left().count()));
  };
  const std::uint64_t first = ns(timeout), second = ns(limits.wall_time);
  return {first == 0 || second == 0 ? std::max(first, second) : std::min(first, second), ns(limits.cpu_time),
          limits.memory, limits.file_size, limits.output};
}

void impose(const Limits& limits, WorkerEntry& entry) {
  lift_resources();
  if (imposed.entry == nullptr) {
    imposed.entry = &entry;
    install(SIGXCPU);
    install(SIGXFSZ);
  }
  imposed.refused = false;
  try {
    if (limits.memory != 0) {
      imposed.memory_before = limit_now(RLIMIT_DATA);
      imposed.data_then = data_now();
      set_limit(RLIMIT_DATA, imposed.memory_before, imposed.data_then + limits.memory, "the memory of a task");
      imposed.handler_before = std::set_new_handler(on_refused);
      imposed.memory = true;
    }
    if (limits.file_size != 0) {
      imposed.file_size_before = limit_now(RLIMIT_FSIZE);
      set_limit(RLIMIT_FSIZE, imposed.file_size_before, limits.file_size, "the file size of a task");
      imposed.file_size = true;
    }
  } catch (...) {
    lift_resources();
    throw;
  }
  if (!limits.timed()) return;
  if (limits.cpu_time != 0) entry.cpu_then.store(cpu_time_now(), std::memory_order_relaxed);
  entry.since.store(static_cast<std::uint64_t>(os::monotonic_now().count()), std::memory_order_release);
}

void lift(WorkerEntry& entry) noexcept {
  entry.since.store(0, std::memory_order_release);
  lift_resources();
}

void check_output(const Limits& limits, std::uint64_t bytes) {
  if (limits.output != 0 && bytes > limits.output) throw LimitExceeded(passed(Limit::output, limits.output, bytes));
}

std::exception_ptr told_as_limit(const Limits& limits) {
  std::exception_ptr error = std::current_exception();
  if (!imposed.refused) return error;
  imposed.refused = false;
  try {
    std::rethrow_exception(error);
  } catch (const std::bad_alloc&) {
    CrashDetails details = passed(Limit::memory, limits.memory, imposed.refused_at);
    details.stack = os::thrown_stack();
    return std::make_exception_ptr(LimitExceeded(std::move(details)));
  } catch (...) {
    return error;
  }
}

}  // namespace mp::pool
