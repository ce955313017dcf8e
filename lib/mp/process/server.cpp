#include "mp/process/server.hpp"

#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "mp/errors.hpp"
#include "mp/memory/family.hpp"
#include "mp/os/call.hpp"
#include "mp/os/fork_page.hpp"
#include "mp/os/futex.hpp"
#include "mp/os/launch.hpp"
#include "mp/os/life.hpp"
#include "mp/os/limit.hpp"
#include "mp/os/private_fd.hpp"
#include "mp/os/spin_lock.hpp"
#include "mp/os/tether.hpp"
#include "mp/pickle/code.hpp"
#include "mp/process/child.hpp"
#include "mp/process/context.hpp"
#include "mp/process/launch.hpp"

namespace mp::process {
namespace {

// Of the server that this process was forked by; written by serve().
pid_t my_server = 0;
int my_server_end = -1;

// ---- in the server's process ----------------------------------------------------------------------------------------

class Service {
 public:
  explicit Service(Record& me) : me_(me) {
    my_server = ::getpid();
    my_server_end = os::tether_end();
    // SIGCHLD is the doorbell: blocked, it waits for wait() however early it comes. Not ignored, or children would be
    // reaped unseen. Ctrl-C is for the program.
    struct sigaction action{};
    action.sa_handler = SIG_DFL;
    ::sigaction(SIGCHLD, &action, &old_child_);
    action.sa_handler = SIG_IGN;
    ::sigaction(SIGINT, &action, &old_interrupt_);
    ::sigemptyset(&bell_);
    ::sigaddset(&bell_, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &bell_, &old_mask_);
  }

  // Returns in a child, which is to leave its copy of the server behind.
  void run() {
    for (;;) {
      reap();
      bool damaged = false;
      for (memory::Ref& request : take(damaged))
        if (start(request)) return;
      // Requests that cannot be read would wait for ever: those who wait see that this server is gone, and make a new one.
      if (damaged) {
        std::fprintf(stderr, "mp: process %d: this server's list of requests is damaged; it ends\n", ::getpid());
        ::_exit(1);
      }
      // Woken by a request or a death; either may have come while we looked, and then the signal is pending.
      if (os::call_again(os::Call::sigwait, [this] { return ::sigwaitinfo(&bell_, nullptr); }) < 0) ::_exit(1);
    }
  }

 private:
  // Oldest first; as far as the list can be read.
  std::vector<memory::Ref> take(bool& damaged) {
    std::vector<memory::Ref> requests;
    // Their entries in the table of members have kept them.
    damaged = !walk_inbox(me_, [&](Offset offset, Record&) { requests.emplace_back(offset); });
    return {requests.rbegin(), requests.rend()};
  }

  // True in the child.
  bool start(memory::Ref& request) {
    Record& record = request.as<Record>();
    if (status_of(record).phase() != Phase::requested) {  // given up
      memory::dismiss(record.tag);
      return false;
    }
    // The child becomes the member that was enlisted for it, and none that lives already.
    if (memory::member(record.tag).record.load(std::memory_order_acquire) != request.offset()) {
      move_on(record, Phase::requested, make_status(Phase::failed, EBADMSG));
      return false;
    }
    pid_t pid = memory::fork_as(record.tag);
    if (pid == 0) {
      // Refs to siblings' records would keep them as long as this child lives.
      children_.clear();
      ::sigaction(SIGCHLD, &old_child_, nullptr);
      ::sigaction(SIGINT, &old_interrupt_, nullptr);
      ::sigprocmask(SIG_SETMASK, &old_mask_, nullptr);
      be_reborn_as(record);
      return true;
    }
    if (pid < 0) {
      move_on(record, Phase::requested, make_status(Phase::failed, errno));
      return false;
    }
    children_.emplace(pid, request);
    record.pid.store(pid, std::memory_order_relaxed);
    // Given up in the last moment: the child sees it too and ends.
    move_on(record, Phase::requested, make_status(Phase::running));
    return false;
  }

  // The record learns of the death before the pid can be used again.
  void reap() {
    for (;;) {
      siginfo_t info{};
      rusage used{};
      long found = os::call_again(
          os::Call::waitid, [&] { return ::syscall(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT, &used); });
      if (found != 0 || info.si_pid == 0) return;
      if (auto child = children_.find(info.si_pid); child != children_.end()) {
        int code = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
        conclude_with(child->second.as<Record>(), code, os::usage_from(&used));
        children_.erase(child);
      }
      os::call_again(os::Call::waitid,
                     [&] { return ::waitid(P_PID, static_cast<id_t>(info.si_pid), &info, WEXITED | WNOHANG); });
    }
  }

  Record& me_;
  std::unordered_map<pid_t, memory::Ref> children_;
  sigset_t bell_, old_mask_;
  struct sigaction old_child_, old_interrupt_;
};

int serve(Offset) {
  describe_terminations();  // once for all its children
  Service(*own_record()).run();
  return 0;  // in a child
}

}  // namespace

pid_t server_pid() noexcept { return my_server; }
int server_tether_end() noexcept { return my_server_end; }

// ---- in its owner's -------------------------------------------------------------------------------------------------

struct Server::State {
  Tag owner;
  Launched server;

  // How it ended.
  std::string end() noexcept {
    Record& record = server.record.as<Record>();
    const int code = conclude(record, server.pidfd.get());
    if (const int error = record.refused.load(std::memory_order_acquire))
      return os::refused(error, "setting up", "the server").what();
    return code < 0 ? "killed by signal " + std::to_string(-code)
                    : "exited with status " + std::to_string(code) + ", its standard error says why";
  }

  // What the dead server has never seen will never run.
  void drop_requests() noexcept {
    walk_inbox(server.record.as<Record>(), [](Offset, Record& record) {
      move_on(record, Phase::requested, make_status(Phase::abandoned));
      memory::dismiss(record.tag);  // with which it may be gone
    });
  }
};

Server::Server() noexcept = default;
Server::Server(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
Server::Server(Server&&) noexcept = default;
Server& Server::operator=(Server&& other) noexcept {
  shutdown();
  state_ = std::move(other.state_);
  return *this;
}
Server::~Server() { shutdown(); }

Server Server::zygote(const std::string& name) {
  memory::Ref ref = make_record();
  Record& record = ref.as<Record>();
  record.holder_end = os::tether_end();
  auto state = std::make_unique<State>(State{memory::self(), {}});
  fill_record(record, ref, name, next_identity(), true);
  state->server = launch_fork(std::move(ref), {[](void*) { return serve(0); }, nullptr});
  return Server(std::move(state));
}

Server Server::clean(const std::string& name) {
  memory::Ref ref = make_record();
  Record& record = ref.as<Record>();
  record.holder_end = os::tether_end();
  record.method = static_cast<std::uint8_t>(StartMethod::spawn);
  record.entry = pickle::code_ref(&serve);
  require_freeze_support();
  auto state = std::make_unique<State>(State{memory::self(), {}});
  fill_record(record, ref, name, next_identity(), true);
  state->server = launch_spawn(std::move(ref));
  return Server(std::move(state));
}

memory::Ref Server::launch(Entry entry, const memory::Ref& payload, const LaunchOptions& options) {
  if (!state_ || state_->owner != memory::self()) throw Error("this process has no such server");
  if (!usable()) throw Error("the server that should start process '" + options.name + "' is dead: " + state_->end());
  Record& server = state_->server.record.as<Record>();
  memory::Ref ref = make_record();
  Record& record = ref.as<Record>();
  record.method = static_cast<std::uint8_t>(StartMethod::forkserver);
  record.entry = pickle::code_ref(entry);
  record.server = server.tag;
  record.tether_to_server = options.tether;
  record.awaits_holder = options.awaits_holder;
  if (options.tether || options.daemon) record.holder_end = os::tether_end();
  if (options.bell) {
    memory::retain(options.bell_object.offset());
    record.bell_object = options.bell_object.offset();
    record.bell = options.bell;
  }
  if (payload) {
    memory::retain(payload.offset());
    record.payload.store(payload.offset(), std::memory_order_relaxed);
  }
  std::string identity = options.identity.empty() ? next_identity() : options.identity;
  fill_record(record, ref, options.name.empty() ? "Process-" + identity : options.name, identity, options.daemon);

  Offset head = server.inbox.load(std::memory_order_relaxed);
  do {
    record.next = head;
  } while (
      !server.inbox.compare_exchange_weak(head, ref.offset(), std::memory_order_acq_rel, std::memory_order_relaxed));
  if (!os::send_signal(state_->server.pidfd.get(), SIGCHLD) && errno != ESRCH) {
    const int error = errno;
    give_up(record);
    throw OSError(error, "kill", "the server that should start process " + options.name);
  }
  return ref;
}

memory::Ref Server::launch_heir(const LaunchOptions& options) {
  LaunchOptions as_server = options;
  as_server.daemon = true;
  as_server.tether = false;
  return launch(&serve, {}, as_server);
}

Server Server::succeed(memory::Ref heir) {
  Record& record = heir.as<Record>();
  if (give_up(record) || status_of(record).phase() == Phase::failed) return {};
  os::UniqueFd fd = pidfd_of(record);
  if (os::ended(fd.get())) {
    conclude(record, fd.get());
    return {};
  }
  auto state = std::make_unique<State>(State{memory::self(), {}});
  state->server.pid = record.pid.load(std::memory_order_acquire);
  state->server.pidfd = os::PrivateFd(std::move(fd));
  state->server.record = std::move(heir);
  return Server(std::move(state));
}

bool Server::usable() const noexcept {
  return state_ && state_->owner == memory::self() && state_->server.pidfd && !os::ended(state_->server.pidfd.get());
}

int Server::sentinel() const noexcept { return state_ ? state_->server.pidfd.get() : -1; }

pid_t Server::pid() const noexcept { return state_ ? state_->server.pid : 0; }

[[gnu::hot]] void Server::shutdown() noexcept {
  if (!state_) return;
  if (state_->owner == memory::self()) {
    int pidfd = state_->server.pidfd.get();
    state_->server.record.as<Record>().told.store(SIGKILL, std::memory_order_relaxed);
    // Refused where this process has given its rights up since it made the server: that one ends with this process then.
    bool sent = os::send_signal(pidfd, SIGKILL);
    for (int tries = 0; tries < 10 && !sent && errno != ESRCH; ++tries) {
      os::nap();
      sent = os::send_signal(pidfd, SIGKILL);
    }
    if (sent || errno == ESRCH) {
      wait_for(pidfd, os::Deadline());
      conclude(state_->server.record.as<Record>(), pidfd);
    }
    state_->drop_requests();
  }
  state_.reset();
}

Started await_started(const memory::Ref& ref, os::Deadline deadline) noexcept {
  Record& record = ref.as<Record>();
  for (;;) {
    Status now = status_of(record);
    switch (now.phase()) {
      case Phase::running:
      case Phase::ended: return Started::running;
      case Phase::failed: return Started::failed;
      case Phase::abandoned: return Started::lost;
      case Phase::requested: break;
    }
    auto slice = deadline.next(os::kSlice);
    if (slice <= slice.zero()) return Started::not_yet;
    if (os::futex_wait(record.status, now.raw, slice) == os::Woken::timed_out && !memory::alive(record.server))
      give_up(record);
  }
}

bool give_up(Record& record) noexcept {
  if (!move_on(record, Phase::requested, make_status(Phase::abandoned)) &&
      status_of(record).phase() != Phase::abandoned)
    return false;
  // A server that lives frees the place in the table when it comes to the request.
  if (!memory::alive(record.server)) memory::orphan(record.tag, record.server);
  return true;
}

os::UniqueFd pidfd_of(const Record& record) {
  os::UniqueFd fd = os::open_pidfd(record.pid.load(std::memory_order_acquire));
  if (fd && os::is_child(fd.get())) return fd;
  // Its reaper writes `ended` before the pid can be used again, so a pidfd opened before that is the right one. Where
  // the reaper died first, the time when the member was seen tells.
  if (fd && status_of(record).phase() != Phase::ended && (os::ended(fd.get()) || memory::alive(record.tag))) return fd;
  os::UniqueFd over(os::call_again(os::Call::eventfd, [] { return ::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK); }));
  if (!over) throw os::refused(errno, "eventfd", "for an ended process");
  return over;
}

// ---- the forkserver: this process's clean server, made at its first use ------------------------------------------------------

namespace {

struct ForkServer {
  std::mutex mutex;
  Server server;
};
MP_FORK_PAGE alignas(ForkServer) std::byte storage[sizeof(ForkServer)];  // it outlives every destructor
ForkServer& fork_server() {
  static ForkServer& f = *new (storage) ForkServer;
  return f;
}
// Made before the first fork, or each child would make its own.
const bool made [[maybe_unused]] = (fork_server(), true);

}  // namespace

memory::Ref launch_forkserver(Entry entry, const memory::Ref& payload, const LaunchOptions& options) {
  ForkServer& f = fork_server();
  // A server that dies meanwhile is replaced; one that dies each time is an error, unless somebody just happens to kill many.
  std::string last;
  constexpr int kMostTries = 3;
  const os::Deadline killed_too_long(std::chrono::seconds(2));
  for (int tries = 0; tries < kMostTries || !killed_too_long.passed(); ++tries) {
    memory::Ref ref;
    {
      std::lock_guard guard(f.mutex);
      if (!f.server.usable()) f.server = Server::clean("forkserver");
      try {
        ref = f.server.launch(entry, payload, options);
      } catch (const Error& e) {
        if (f.server.usable()) throw;
        last = e.what();
        continue;
      }
    }
    switch (await_started(ref, os::Deadline())) {
      case Started::running: return ref;
      case Started::failed:
        throw os::refused(status_of(ref.as<Record>()).code(), "fork", "in the forkserver for process " + options.name);
      default: break;
    }
  }
  throw Error("the forkserver died again and again before it could start process " + options.name +
              (last.empty() ? "" : "; the last time: " + last));
}

pid_t forkserver_pid() {
  ForkServer& f = fork_server();
  std::lock_guard guard(f.mutex);
  return f.server.usable() ? f.server.pid() : 0;
}

[[gnu::hot]] void stop_forkserver() noexcept { fork_server().server.shutdown(); }

[[gnu::hot]] void forget_forkserver() noexcept {
  ForkServer& f = fork_server();
  new (&f.mutex) std::mutex;
  f.server.shutdown();  // it is the parent's: only our copy of the handle goes
}

}  // namespace mp::process
