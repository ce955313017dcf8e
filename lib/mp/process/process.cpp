#include "mp/process/process.hpp"

#include <cxxabi.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <typeinfo>

#include "mp/channel/pipe_state.hpp"
#include "mp/errors.hpp"
#include "mp/memory/family.hpp"
#include "mp/os/tether.hpp"
#include "mp/process/child.hpp"
#include "mp/process/launch.hpp"
#include "mp/process/state.hpp"

namespace mp {
namespace process {
namespace {

std::string readable(const std::type_info& type) {
  int status = 0;
  char* text = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  std::string name = status == 0 ? text : type.name();
  std::free(text);
  return name;
}

// ---- what a process that shares no memory with its parent calls ---------------------------------------------------------------

// An object of kind call: this, the offsets of the objects that the message names (counted; 0: no more), the message.
struct Call {
  os::ModuleAddress run;  // void (pickle::Reader&)
  std::uint64_t carried, size;
  std::atomic<Offset>* objects() noexcept { return reinterpret_cast<std::atomic<Offset>*>(this + 1); }
};
static_assert(sizeof(Call) == 32);

// A kill between the two steps for one object leaks its count. So no page fault may come there: that makes it a thousand times as likely.
void release_carried(void* object) noexcept {
  Call& call = *static_cast<Call*>(object);
  const std::uint64_t carried = call.carried;
  if (!memory::array_at<Offset>(memory::offset_of(call.objects()), carried)) return;
  for (std::uint64_t i = 0; i < carried; ++i) {
    const Offset named = call.objects()[i].load(std::memory_order_relaxed);
    const bool is_there = memory::is_any_object(named);
    if (is_there) memory::touch(named);
    if (call.objects()[i].exchange(0, std::memory_order_acq_rel) == named && is_there) memory::release(named);
  }
}
const bool known [[maybe_unused]] = memory::set_destroyer(memory::Kind::call, release_carried, alignof(Call));

}  // namespace

int run_call(Offset payload) {
  if (payload == 0) return 0;
  auto* call = memory::try_object<Call>(payload, memory::Kind::call);
  if (call == nullptr) throw UnpicklingError("what this process should call is no call");
  const std::uint64_t carried = call->carried, size = call->size;
  const auto* objects = memory::array_at<std::atomic<Offset>>(memory::offset_of(call->objects()), carried);
  const std::byte* message =
      objects != nullptr ? memory::block_at(memory::offset_of(objects + carried), size) : nullptr;
  if (message == nullptr && size != 0) throw UnpicklingError("what this process should call is longer than its memory");
  auto run = pickle::code_as<void (*)(pickle::Reader&)>(call->run);
  pickle::Reader reader({message, size});
  run(reader);
  return 0;
}

memory::Ref make_call(void (*run)(pickle::Reader&), pickle::Writer& w) {
  auto carried = w.carried();
  memory::Ref ref = memory::create<Call>(memory::Kind::call, 0, carried.size_bytes() + w.size());
  Call& call = ref.as<Call>();
  call.run = pickle::code_ref(run);
  call.size = w.size();
  for (std::size_t i = 0; i < carried.size(); ++i) new (call.objects() + i) std::atomic<Offset>(carried[i]);
  call.carried = carried.size();
  if (w.size()) std::memcpy(static_cast<void*>(call.objects() + carried.size()), w.bytes().data(), w.size());
  w.detach();
  return ref;
}

void empty_call(Offset payload) noexcept {
  if (Call* call = memory::try_object<Call>(payload, memory::Kind::call)) release_carried(call);
}

void call_is_loaded() noexcept { drop_payload(); }

void refuse_to_pickle(const std::type_info& function) {
  throw PicklingError(
      "a process under spawn or forkserver shares no memory with its parent, and " + readable(function) +
      " or one of its arguments can be neither pickled nor copied: use fork, or pass values and mp handles");
}

}  // namespace process

Process::Process(ProcessOptions options)
    : ProcessHandle(std::make_shared<process::State>(process::Relation::child)),
      context_(options.context) {
  state_->identity = process::next_identity();
  state_->name = options.name.empty() ? "Process-" + state_->identity : std::move(options.name);
  state_->daemon = options.daemon ? *options.daemon : process::is_daemon();
}

Process::Process(Process&&) noexcept = default;

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    finish();
    ProcessHandle::operator=(std::move(other));
    context_ = other.context_;
    target_ = std::move(other.target_);
    held_ = std::move(other.held_);
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
  process::State& s = state();
  std::lock_guard guard(s.mutex);
  if (s.started.load(std::memory_order_acquire)) throw ValueError("the process has already started");
  s.daemon = daemon;
}

[[gnu::hot]] void Process::run() {
  if (target_) target_->call();
}

void Process::start() {
  process::State& s = process::own(state(), "start");
  if (s.started.load(std::memory_order_acquire)) throw ValueError("cannot start a process twice");
  process::live_children();
  process::watch_own_end();
  StartMethod method = context_.method();
  if (method != StartMethod::fork && typeid(*this) != typeid(Process))
    throw ValueError("a class that overrides run() is not pickled, so it works under fork only: " +
                     process::readable(typeid(*this)));
  process::Launched launched = method == StartMethod::fork    ? launch_by_fork(s)
                               : method == StartMethod::spawn ? launch_by_spawn(s)
                                                              : launch_by_forkserver(s);
  {
    std::lock_guard guard(s.mutex);
    s.record = std::move(launched.record);
    s.sentinel = std::move(launched.pidfd);
    s.tag = s.about().tag;
    s.pid = launched.pid;
    s.started.store(true, std::memory_order_release);
  }
  process::add_child(state_);
  target_.reset();
  held_.clear();
}

process::Launched Process::launch_by_fork(process::State& s) {
  memory::Ref ref = process::make_record();
  process::Record& record = ref.as<process::Record>();
  record.method = static_cast<std::uint8_t>(StartMethod::fork);
  if (s.daemon) record.holder_end = os::tether_end();
  process::fill_record(record, ref, s.name, s.identity, s.daemon);
  try {
    channel::keep_in_child(record.tag, held_);
  } catch (...) {
    memory::dismiss(record.tag);
    throw;
  }
  return process::launch_fork(std::move(ref), {run_forked, this});
}

[[gnu::hot]] int Process::run_forked(void* process) {
  static_cast<Process*>(process)->run();
  return 0;
}

process::Launched Process::launch_by_spawn(process::State& s) {
  process::require_freeze_support();
  memory::Ref ref = process::make_record();
  process::Record& record = ref.as<process::Record>();
  record.method = static_cast<std::uint8_t>(StartMethod::spawn);
  record.entry = pickle::code_ref(&process::run_call);
  if (s.daemon) record.holder_end = os::tether_end();
  if (target_) {
    memory::Ref payload = target_->pack();
    memory::retain(payload.offset());
    record.payload.store(payload.offset(), std::memory_order_relaxed);
  }
  process::fill_record(record, ref, s.name, s.identity, s.daemon);
  return process::launch_spawn(std::move(ref));
}

process::Launched Process::launch_by_forkserver(process::State& s) {
  process::require_freeze_support();
  memory::Ref payload = target_ ? target_->pack() : memory::Ref();
  memory::Ref ref = process::launch_forkserver(
      process::run_call, payload,
      {.name = s.name, .daemon = s.daemon, .tether = false, .awaits_holder = true, .identity = s.identity});
  return process::take_hold(std::move(ref));
}

}  // namespace mp
