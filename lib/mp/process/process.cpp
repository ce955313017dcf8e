#include "mp/process/process.hpp"

#include <cxxabi.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <typeinfo>

#include "mp/errors.hpp"
#include "mp/memory/family.hpp"
#include "mp/os/call.hpp"
#include "mp/os/life.hpp"
#include "mp/os/tether.hpp"
#include "mp/process/child.hpp"
#include "mp/process/launch.hpp"

namespace mp {
namespace process {

enum class Relation : std::uint8_t { child, parent, self };

// What a handle and its copies share. `mutex` guards name, daemon and the step to started or closed.
struct State {
  explicit State(Relation r) : relation(r) {}
  const Relation relation;
  const Tag holder = memory::self();  // whose handle it is
  std::mutex mutex;
  std::string name, identity;
  bool daemon = false;
  Tag tag = memory::kNobody;
  pid_t pid = 0;
  memory::Ref record;      // a child's, once started
  os::PrivateFd sentinel;  // likewise
  std::atomic<bool> started{false}, closed{false};

  Record& about() const noexcept { return record.as<Record>(); }
};

namespace {

constexpr auto kPatience = std::chrono::seconds(1);

// The children that this process has started and not yet seen dead.
struct Children {
  std::mutex mutex;
  std::vector<std::shared_ptr<State>> list;
};
Children& children() {
  static Children& c = *new Children;
  return c;
}

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
  if (!has_ended(state) && wait_for(state.sentinel.get(), deadline)) conclude(state.about(), state.sentinel.get());
  if (!has_ended(state)) return false;
  forget_child(state);
  return true;
}

bool wait_for_parent(const State& state, os::Deadline deadline) {
  for (;;) {
    os::UniqueFd fd = os::open_pidfd(state.pid);
    // Asked after the descriptor was opened: it is the parent's, and no later process's with its pid.
    if (!fd || !memory::alive(state.tag)) return true;
    if (wait_for(fd.get(), deadline)) return true;
    if (deadline.passed()) return false;
  }
}

void send(State& state, int signal) noexcept {
  if (state.relation != Relation::child) {
    if (state.relation == Relation::self || memory::alive(state.tag)) os::call(os::Call::kill, [&] { return ::kill(state.pid, signal); });
    return;
  }
  if (has_ended(state)) return;
  state.about().told.store(signal, std::memory_order_relaxed);
  os::call(os::Call::kill, [&] { return ::syscall(SYS_pidfd_send_signal, state.sentinel.get(), signal, nullptr, 0); });
}

void end_daemon(State& state) noexcept {
  send(state, SIGTERM);
  if (wait_for_child(state, os::Deadline(kPatience))) return;
  send(state, SIGKILL);
  wait_for_child(state, os::Deadline());
}

std::string readable(const std::type_info& type) {
  int status = 0;
  char* text = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  std::string name = status == 0 ? text : type.name();
  std::free(text);
  return name;
}

// ---- what a process that shares no memory with its parent calls ---------------------------------------------------------------

// An object of kind call: this, the offsets of the objects that the message names (counted), the message.
struct Call {
  os::ModuleAddress run;  // void (pickle::Reader&)
  std::uint64_t carried, size;
  Offset* objects() noexcept { return reinterpret_cast<Offset*>(this + 1); }
  std::byte* message() noexcept { return reinterpret_cast<std::byte*>(objects() + carried); }
};
static_assert(sizeof(Call) == 32);

const bool known [[maybe_unused]] = memory::set_destroyer(memory::Kind::call, [](void* object) noexcept {
  Call& call = *static_cast<Call*>(object);
  for (std::uint64_t i = 0; i < call.carried; ++i) memory::release(call.objects()[i]);
});

int run_call(Offset payload) {
  if (payload == 0) return 0;
  if (!memory::is_object(payload, memory::Kind::call)) throw UnpicklingError("what this process should call is no call");
  Call& call = *memory::at<Call>(payload);
  auto run = pickle::code_as<void (*)(pickle::Reader&)>(call.run);
  pickle::Reader reader({call.message(), call.size});
  run(reader);
  return 0;
}

}  // namespace

memory::Ref make_call(void (*run)(pickle::Reader&), pickle::Writer& w) {
  auto carried = w.carried();
  memory::Ref ref = memory::create<Call>(memory::Kind::call, 0, carried.size_bytes() + w.size());
  Call& call = ref.as<Call>();
  call.run = pickle::code_ref(run);
  call.size = w.size();
  if (w.size()) std::memcpy(call.objects() + carried.size(), w.bytes().data(), w.size());
  std::copy(carried.begin(), carried.end(), call.objects());
  call.carried = carried.size();
  w.detach();
  return ref;
}

void call_is_loaded() noexcept { drop_payload(); }

void refuse_to_pickle(const std::type_info& function) {
  throw PicklingError("a process under spawn or forkserver shares no memory with its parent, and " + readable(function) +
                      " or one of its arguments can be neither pickled nor copied: use fork, or pass values and mp handles");
}

void stop_children() noexcept {
  auto alive = live_children();
  for (auto& child : alive)
    if (child->daemon) send(*child, SIGTERM);
  for (auto& child : alive)
    if (child->daemon) end_daemon(*child);
  for (auto& child : alive)
    if (!child->daemon) wait_for_child(*child, os::Deadline());
}

void forget_children() noexcept {
  new (&children().mutex) std::mutex;
  children().list.clear();
}

}  // namespace process

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

State& own(State& state, const char* verb) {
  if (state.holder != memory::self()) throw ValueError(std::string("can only ") + verb + " a process from the process that it belongs to");
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

void ProcessHandle::terminate() const { process::send(own(started(state(), "terminate"), "terminate"), SIGTERM); }
void ProcessHandle::kill() const { process::send(own(started(state(), "kill"), "kill"), SIGKILL); }
void ProcessHandle::interrupt() const { process::send(own(started(state(), "interrupt"), "interrupt"), SIGINT); }

void ProcessHandle::close() {
  if (!state_ || state_->closed.load(std::memory_order_acquire)) return;
  State& s = *state_;
  if (s.started.load(std::memory_order_acquire)) {
    if (is_alive()) throw ValueError("cannot close a process while it is still running: first call join() or terminate()");
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
  state->daemon = process::self_info().daemon;
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

// ---- Process -------------------------------------------------------------------------------------------------------------

Process::Process(ProcessOptions options) : ProcessHandle(std::make_shared<State>(Relation::child)), context_(options.context) {
  state_->identity = process::next_identity();
  state_->name = options.name.empty() ? "Process-" + state_->identity : std::move(options.name);
  state_->daemon = options.daemon ? *options.daemon : process::self_info().daemon;
}

Process::Process(Process&&) noexcept = default;

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    finish();
    ProcessHandle::operator=(std::move(other));
    context_ = other.context_;
    target_ = std::move(other.target_);
  }
  return *this;
}

Process::~Process() { finish(); }

void Process::finish() noexcept {
  if (!state_ || !state_->started.load(std::memory_order_acquire) || state_->closed.load(std::memory_order_acquire) ||
      state_->holder != memory::self())
    return;
  if (state_->daemon) process::end_daemon(*state_);
  else process::wait_for_child(*state_, os::Deadline());
}

void Process::set_daemon(bool daemon) {
  State& s = state();
  std::lock_guard guard(s.mutex);
  if (s.started.load(std::memory_order_acquire)) throw ValueError("the process has already started");
  s.daemon = daemon;
}

void Process::run() {
  if (target_) target_->call();
}

void Process::start() {
  State& s = own(state(), "start");
  if (s.started.load(std::memory_order_acquire)) throw ValueError("cannot start a process twice");
  process::live_children();
  StartMethod method = context_.method();
  process::Launched launched;
  if (method == StartMethod::forkserver || method == StartMethod::spawn) {
    if (typeid(*this) != typeid(Process))
      throw ValueError("a class that overrides run() is not pickled, so it works under fork only: " + process::readable(typeid(*this)));
    process::require_freeze_support();
  }
  process::watch_own_end();
  if (method == StartMethod::forkserver) {
    memory::Ref payload = target_ ? target_->pack() : memory::Ref();
    launched.record = process::launch_forkserver(
        process::run_call, payload, {.name = s.name, .daemon = s.daemon, .tether = false, .identity = s.identity});
    process::Record& record = launched.record.as<process::Record>();
    launched.pid = record.pid.load(std::memory_order_acquire);
    launched.pidfd = os::PrivateFd(process::pidfd_of(record));
  } else {
    memory::Ref ref = process::make_record();
    process::Record& record = ref.as<process::Record>();
    record.method = static_cast<std::uint8_t>(method);
    if (s.daemon) record.holder_end = os::tether_end();
    if (method == StartMethod::spawn) {
      record.entry = pickle::code_ref(&process::run_call);
      if (target_) {
        memory::Ref payload = target_->pack();
        memory::retain(payload.offset());
        record.payload.store(payload.offset(), std::memory_order_relaxed);
      }
      process::fill_record(record, ref, s.name, s.identity, s.daemon);
      launched = process::launch_spawn(ref);
    } else {
      process::fill_record(record, ref, s.name, s.identity, s.daemon);
      launched = process::launch_fork(ref, [this] {
        run();
        return 0;
      });
    }
  }
  {
    std::lock_guard guard(s.mutex);
    s.record = std::move(launched.record);
    s.sentinel = std::move(launched.pidfd);
    s.tag = s.about().tag;
    s.pid = launched.pid;
    s.started.store(true, std::memory_order_release);
  }
  process::Children& c = process::children();
  std::lock_guard guard(c.mutex);
  c.list.push_back(state_);
  target_.reset();
}

}  // namespace mp
