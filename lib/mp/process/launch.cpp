#include "mp/process/launch.hpp"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mp/errors.hpp"
#include "mp/memory/family.hpp"
#include "mp/os/call.hpp"
#include "mp/os/launch.hpp"
#include "mp/os/life.hpp"
#include "mp/os/limit.hpp"
#include "mp/os/spin_lock.hpp"
#include "mp/os/threads.hpp"
#include "mp/process/child.hpp"
#include "mp/process/context.hpp"

namespace mp::process {
namespace {

// The parent's side once the child exists: it waits for nothing.
Launched take_own(memory::Ref ref, pid_t pid) {
  Record& record = ref.as<Record>();
  record.pid.store(pid, std::memory_order_relaxed);
  move_on(record, Phase::requested, make_status(Phase::running));
  try {
    return take_hold(ref);
  } catch (...) {
    // It ends by itself, before it has run anything; nobody else would reap it.
    os::call_again(os::Call::waitid, [pid] {
      siginfo_t info;
      return ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | __WALL);
    });
    conclude(record, -1);
    throw;
  }
}

}  // namespace

Launched take_hold(memory::Ref ref) {
  Record& record = ref.as<Record>();
  try {
    os::PrivateFd pidfd(pidfd_of(record));
    tell_held(record, true);
    const pid_t pid = record.pid.load(std::memory_order_relaxed);
    return {std::move(ref), pid, std::move(pidfd)};
  } catch (...) {
    tell_held(record, false);
    throw;
  }
}

[[gnu::hot]] Launched launch_fork(memory::Ref ref, Body body) {
  Record& record = ref.as<Record>();
  record.awaits_holder = true;
  watch_own_end();
  const unsigned others = os::foreign_threads();
  warn_of_threads(others);
  flush_streams(others);
  pid_t pid = memory::fork_as(record.tag);
  if (pid == 0) live(record, Role::forked, body);
  if (pid < 0) {
    if (errno == ENOSPC) throw memory::full(64 * 1024);  // a page of the arena, for what the child holds
    throw os::refused(errno, "fork", "for process " + std::string(text_of(record.name)));
  }
  return take_own(std::move(ref), pid);
}

Launched launch_spawn(memory::Ref ref) {
  Record& record = ref.as<Record>();
  record.awaits_holder = true;
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
  return take_own(std::move(ref), pid);
}

bool wait_for(int pidfd, os::Deadline deadline) noexcept {
  for (;;) {
    // A poll a day is enough for ever.
    auto left = deadline.next(std::chrono::hours(24));
    timespec time{left.count() / 1'000'000'000, left.count() % 1'000'000'000};
    pollfd p{pidfd, POLLIN, 0};
    int ready = os::call(os::Call::poll, [&] { return ::ppoll(&p, 1, &time, nullptr); });
    if (ready > 0) return true;
    if (deadline.passed()) return false;
    // Short of memory for the moment: nobody may take that for the end of the wait.
    if (ready < 0 && errno != EINTR) os::nap();
  }
}

}  // namespace mp::process
