#include "mp/process/launch.hpp"

#include <poll.h>
#include <unistd.h>

#include "mp/errors.hpp"
#include "mp/memory/family.hpp"
#include "mp/os/call.hpp"
#include "mp/os/launch.hpp"
#include "mp/os/life.hpp"
#include "mp/os/threads.hpp"
#include "mp/process/child.hpp"
#include "mp/process/context.hpp"

namespace mp::process {
namespace {

// The parent's side once the child exists: it waits for nothing.
Launched take_hold(memory::Ref ref, pid_t pid) {
  Record& record = ref.as<Record>();
  record.pid.store(pid, std::memory_order_relaxed);
  move_on(record, Phase::requested, make_status(Phase::running));
  struct Release {
    Record& record;
    ~Release() { tell_held(record); }
  } release{record};
  os::PrivateFd pidfd(pidfd_of(record));
  return {std::move(ref), pid, std::move(pidfd)};
}

}  // namespace

[[gnu::hot]] Launched launch_fork(memory::Ref ref, const std::function<int()>& body) {
  Record& record = ref.as<Record>();
  watch_own_end();
  const unsigned others = os::foreign_threads();
  warn_of_threads(others);
  flush_streams(others);
  pid_t pid = memory::fork_as(record.tag);
  if (pid == 0) live(record, Role::forked, body);
  if (pid < 0) throw OSError(errno, "fork", "for process " + std::string(text_of(record.name)));
  return take_hold(std::move(ref), pid);
}

Launched launch_spawn(memory::Ref ref) {
  Record& record = ref.as<Record>();
  pid_t pid;
  try {
    require_freeze_support();
    watch_own_end();
    pid = os::launch(executable(), memory::arena_fd(), record.tag);
  } catch (...) {
    memory::dismiss(record.tag);
    throw;
  }
  memory::member(record.tag).pid.store(pid, std::memory_order_release);
  return take_hold(std::move(ref), pid);
}

bool wait_for(int pidfd, os::Deadline deadline) noexcept {
  for (;;) {
    // A poll a day is enough for ever.
    auto left = deadline.next(std::chrono::hours(24));
    timespec time{left.count() / 1'000'000'000, left.count() % 1'000'000'000};
    pollfd p{pidfd, POLLIN, 0};
    int ready = os::call(os::Call::poll, [&] { return ::ppoll(&p, 1, &time, nullptr); });
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR && errno != EAGAIN) return false;
    if (deadline.passed()) return false;
  }
}

}  // namespace mp::process
