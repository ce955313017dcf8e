#include "mp/process/handle.hpp"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mp/errors.hpp"
#include "mp/os/call.hpp"
#include "mp/os/fork_page.hpp"
#include "mp/os/life.hpp"
#include "mp/process/child.hpp"
#include "mp/process/state.hpp"

namespace mp {
namespace process {
namespace {

constexpr auto kPatience = std::chrono::seconds(1);

// The children that this process has started and not yet seen dead.
struct Children {
  std::atomic<bool> any{false};  // whether there ever were any: most processes end without a look at the list
  std::mutex mutex;
  std::vector<std::shared_ptr<State>> list;
};
union Undestroyed {  // it outlives every destructor
  constexpr Undestroyed() : children() {}
  ~Undestroyed() {}
  Children children;
};
MP_FORK_PAGE constinit Undestroyed storage;
Children& children() noexcept { return storage.children; }

void forget_child(const State& state) noexcept {
  Children& c = children();
  std::lock_guard guard(c.mutex);
  std::erase_if(c.list, [&](const auto& other) { return other.get() == &state; });
}

// Whether a started child has ended; then its exit code is in the record and it is reaped.
bool has_ended(State& state) noexcept {
  if (status_of(state.about()).phase() == Phase::ended) return true;
  if (int fd = state.sentinel.get(); fd < 0 || !os::ended(fd)) return false;
  conclude(state.about(), state.sentinel.get());
  return true;
}

}  // namespace

void add_child(std::shared_ptr<State> child) {
  Children& c = children();
  c.any.store(true, std::memory_order_relaxed);
  std::lock_guard guard(c.mutex);
  c.list.push_back(std::move(child));
}

std::vector<std::shared_ptr<State>> live_children() {
  std::vector<std::shared_ptr<State>> all, alive;
  {
    std::lock_guard guard(children().mutex);
    all = children().list;
  }
  for (auto& child : all) {
    if (has_ended(*child)) forget_child(*child);
    else alive.push_back(std::move(child));
  }
  return alive;
}

bool wait_for_child(State& state, os::Deadline deadline) noexcept {
  if (status_of(state.about()).phase() != Phase::ended) {
    if (!wait_for(state.sentinel.get(), deadline)) return false;
    conclude(state.about(), state.sentinel.get());
  }
  forget_child(state);
  return true;
}

namespace {

bool wait_for_parent(const State& state, os::Deadline deadline) {
  for (;;) {
    os::UniqueFd fd = os::open_pidfd(state.pid);
    // Asked after the descriptor was opened: it is the parent's, and no later process's with its pid.
    if (!fd || !memory::alive(state.tag)) return true;
    if (wait_for(fd.get(), deadline)) return true;
    if (deadline.passed()) return false;
  }
}

// 0, also where it is gone, or the errno.
int send(State& state, int signal) noexcept {
  bool sent = true;
  if (state.relation != Relation::child) {
    if (state.relation == Relation::self || memory::alive(state.tag))
      sent = os::call_again(os::Call::kill, [&] { return ::kill(state.pid, signal); }) == 0;
  } else if (!has_ended(state)) {
    state.about().told.store(signal, std::memory_order_relaxed);
    sent = os::send_signal(state.sentinel.get(), signal);
  }
  return sent || errno == ESRCH ? 0 : errno;
}

// Until it has ended, at `deadline` by SIGKILL.
void outlast(State& state, os::Deadline deadline) noexcept {
  if (wait_for_child(state, deadline)) return;
  send(state, SIGKILL);
  wait_for_child(state, os::Deadline());
}

}  // namespace

void end_daemon(State& state) noexcept {
  send(state, SIGTERM);
  outlast(state, os::Deadline(kPatience));
}

State& own(State& state, const char* verb) {
  if (state.holder != memory::self())
    throw ValueError(std::string("can only ") + verb + " a process from the process that it belongs to");
  return state;
}

[[gnu::hot]] void stop_children() noexcept {
  if (!children().any.load(std::memory_order_relaxed)) return;
  auto alive = live_children();
  for (auto& child : alive)
    if (child->daemon) send(*child, SIGTERM);
  os::Deadline deadline(kPatience);
  for (auto& child : alive)
    if (child->daemon) outlast(*child, deadline);
  for (auto& child : alive)
    if (!child->daemon) wait_for_child(*child, os::Deadline());
}

[[gnu::hot]] void forget_children() noexcept {
  Children& c = children();
  c.any.store(false, std::memory_order_relaxed);
  new (&c.mutex) std::mutex;
  c.list.clear();
}

}  // namespace process

process::Record* process::record_of(const ProcessHandle& process) noexcept {
  const auto& state = process.state_;
  return state && state->started.load(std::memory_order_acquire) && state->record ? &state->about() : nullptr;
}

using process::own;
using process::Relation;
using process::State;

// ---- handles -----------------------------------------------------------------------------------------------------------

process::State& ProcessHandle::state() const {
  if (!state_) throw ValueError("there is no such process");
  if (state_->closed.load(std::memory_order_acquire)) throw ValueError("process object is closed");
  return *state_;
}

namespace {

State& started(State& state, const char* verb) {
  if (state.relation == Relation::child && !state.started.load(std::memory_order_acquire))
    throw ValueError(std::string("can only ") + verb + " a started process");
  return state;
}

}  // namespace

std::string ProcessHandle::name() const {
  State& s = state();
  if (s.relation == Relation::self) return process::self_info().name;
  std::lock_guard guard(s.mutex);
  return s.name;
}

void ProcessHandle::set_name(std::string name) {
  State& s = state();
  if (s.relation == Relation::self) return process::rename_self(name);
  std::lock_guard guard(s.mutex);
  s.name = std::move(name);
}

bool ProcessHandle::daemon() const {
  State& s = state();
  std::lock_guard guard(s.mutex);
  return s.daemon;
}

pid_t ProcessHandle::pid() const { return state().pid; }

bool ProcessHandle::is_alive() const {
  State& s = state();
  switch (s.relation) {
    case Relation::self: return true;
    case Relation::parent: return memory::alive(s.tag);
    case Relation::child: break;
  }
  own(s, "look after");
  if (!s.started.load(std::memory_order_acquire)) return false;
  if (!process::has_ended(s)) return true;
  process::forget_child(s);
  return false;
}

bool ProcessHandle::join(Timeout timeout) const {
  State& s = own(started(state(), "join"), "join");
  os::Deadline deadline(timeout);
  switch (s.relation) {
    case Relation::self: throw ValueError("a process cannot join itself");
    case Relation::parent: return process::wait_for_parent(s, deadline);
    case Relation::child: break;
  }
  return process::wait_for_child(s, deadline);
}

std::optional<int> ProcessHandle::exitcode() const {
  State& s = state();
  if (s.relation != Relation::child || !s.started.load(std::memory_order_acquire) || is_alive()) return std::nullopt;
  return process::status_of(s.about()).code();
}

int ProcessHandle::sentinel() const {
  State& s = started(state(), "watch");
  if (s.relation != Relation::child) throw ValueError("only a child has a sentinel; join() waits for a parent");
  return s.sentinel.get();
}

namespace {

void tell(State& state, int signal) {
  if (int error = process::send(state, signal)) throw OSError(error, "kill", "process " + std::to_string(state.pid));
}

}  // namespace

void ProcessHandle::terminate() const { tell(own(started(state(), "terminate"), "terminate"), SIGTERM); }
void ProcessHandle::kill() const { tell(own(started(state(), "kill"), "kill"), SIGKILL); }
void ProcessHandle::interrupt() const { tell(own(started(state(), "interrupt"), "interrupt"), SIGINT); }

void ProcessHandle::close() {
  if (!state_ || state_->closed.load(std::memory_order_acquire)) return;
  State& s = *state_;
  if (s.started.load(std::memory_order_acquire)) {
    if (is_alive())
      throw ValueError("cannot close a process while it is still running: first call join() or terminate()");
    s.sentinel = {};
  }
  s.closed.store(true, std::memory_order_release);
  s.record = {};
}

std::string ProcessHandle::repr() const {
  if (!state_) return "<Process nobody>";
  State& s = *state_;
  std::string text = "<Process name='";
  if (s.closed.load(std::memory_order_acquire)) return text + s.name + "' closed>";
  text += name() + "'";
  if (pid()) text += " pid=" + std::to_string(pid());
  if (s.relation == Relation::child) {
    text += " parent=" + std::to_string(memory::member(s.holder).pid.load(std::memory_order_relaxed));
    if (!s.started.load(std::memory_order_acquire)) text += " initial";
    else if (s.holder != memory::self()) text += " unknown";
    else if (auto code = exitcode()) text += " stopped exitcode=" + std::to_string(*code);
    else text += " started";
  } else {
    text += is_alive() ? " started" : " stopped";
  }
  return text + (daemon() ? " daemon>" : ">");
}

ProcessHandle current_process() {
  auto state = std::make_shared<State>(Relation::self);
  state->tag = state->holder;
  state->pid = ::getpid();
  state->daemon = process::is_daemon();
  return ProcessHandle(std::move(state));
}

ProcessHandle parent_process() {
  process::Self self = process::self_info();
  if (self.parent == memory::kNobody) return {};
  auto state = std::make_shared<State>(Relation::parent);
  state->tag = self.parent;
  state->pid = self.parent_pid;
  state->name = self.parent_name;
  return ProcessHandle(std::move(state));
}

std::vector<ProcessHandle> active_children() {
  std::vector<ProcessHandle> handles;
  for (auto& child : process::live_children()) handles.emplace_back(std::move(child));
  return handles;
}

}  // namespace mp
