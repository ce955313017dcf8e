#include "mp/pool/failure.hpp"

#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "mp/errors.hpp"
#include "mp/os/limit.hpp"
#include "mp/os/symbol.hpp"
#include "mp/pickle/exception.hpp"
#include "mp/pool/describe.hpp"

namespace mp::pool {
namespace {

os::Stack stack_of(const process::Crash& crash) {
  os::Stack stack;
  std::uint32_t count =
      std::min<std::uint32_t>(crash.frame_count.load(std::memory_order_acquire), process::Crash::kMaxFrames);
  if (count == 0) return stack;
  stack.exact_first = true;
  const char* end = crash.modules + process::Crash::kModuleBytes;
  for (const char* name = crash.modules; name < end && *name; name += std::strlen(name) + 1) {
    if (!std::memchr(name, 0, static_cast<std::size_t>(end - name))) break;
    stack.files.emplace_back(name);
  }
  for (std::uint32_t i = 0; i < count; ++i) stack.frames.push_back({crash.frames[i].module, crash.frames[i].offset});
  return stack;
}

std::string mapping_of(const process::Crash& crash, pid_t pid) {
  using process::Place;
  const auto field = [](const auto& text) { return std::string(text, ::strnlen(text, sizeof text)); };
  std::string mapping = field(crash.mapping);
  if (mapping.empty()) mapping = "memory without a name";
  switch (crash.place.load(std::memory_order_acquire)) {
    case Place::unmapped:
      return crash.distance == 0 ? "unmapped"
                                 : "unmapped, " + std::to_string(crash.distance) + " bytes beyond " + mapping;
    case Place::stack_guard:
      return crash.thread == pid ? "stack guard of the main thread"
                                 : "stack guard of thread " + std::to_string(crash.thread);
    case Place::shared: return "shared memory of the family";
    case Place::mapped: return mapping + " (" + field(crash.access) + ')';
    case Place::unknown: break;
  }
  return {};
}

}  // namespace

CrashDetails details_of(const process::Record& record) {
  CrashDetails d;
  int code = process::status_of(record).code();
  d.signal = code < 0 ? -code : 0;
  d.exit_status = code < 0 ? 0 : code;
  if (d.signal != 0 && record.crash.signal.load(std::memory_order_acquire) == d.signal) {
    d.code = record.crash.code;
    d.address = record.crash.address;
    d.mapping = mapping_of(record.crash, record.pid.load(std::memory_order_relaxed));
    d.stack = stack_of(record.crash);
  }
  if (record.crash.terminated.load(std::memory_order_acquire) != 0) {
    d.terminated = true;
    char text[std::max(process::Crash::kTypeBytes, process::Crash::kWhatBytes) + 1] = {};
    std::memcpy(text, record.crash.exception, process::Crash::kTypeBytes);
    if (*text) d.exception = os::demangled(text);
    d.exception_what.assign(record.crash.exception_what,
                            ::strnlen(record.crash.exception_what, process::Crash::kWhatBytes));
  }
  d.worker = process::text_of(record.name);
  d.pid = record.pid.load(std::memory_order_relaxed);
  d.usage = record.usage.load();
  return d;
}

void dump_failure(pickle::Writer& out, const std::exception_ptr& error) {
  const process::Record* me = process::own_record();
  out.put(static_cast<std::int32_t>(::getpid()));
  out.put_text(me ? process::text_of(me->name) : "");
  pickle::dump_exception(out, error);
}

std::exception_ptr load_failure(pickle::Reader& in, std::uint64_t task, const std::string& task_name) noexcept {
  try {
    pickle::Origin origin;
    origin.pid = in.get<std::int32_t>("pid of a worker");
    origin.worker = in.get_text("name of a worker");
    origin.task = task;
    origin.task_name = task_name;
    return pickle::load_exception(in, origin);
  } catch (...) {
    return std::current_exception();
  }
}

std::exception_ptr load_failure(const Parcel& from, std::uint64_t task, const std::string& task_name) noexcept {
  try {
    pickle::Reader in(payload(from, {}));
    return load_failure(in, task, task_name);
  } catch (...) {
    return std::current_exception();
  }
}

std::exception_ptr load_failure(const Slot& from, std::uint64_t task, const std::string& task_name) noexcept {
  try {
    switch (from.outcome) {
      case Outcome::no_room: throw memory::full(from.result.size);
      case Outcome::exception: {
        pickle::Reader in(from.result_payload());
        return load_failure(in, task, task_name);
      }
      default: throw UnpicklingError("task " + std::to_string(task) + " has ended in no way that there is");
    }
  } catch (...) {
    return std::current_exception();
  }
}

std::exception_ptr with_call(const std::exception_ptr& error, pickle::CodeRef run) noexcept {
  try {
    std::rethrow_exception(error);
  } catch (const LimitExceeded& e) {
    const RemoteDetails* remote = remote_of(e);
    if (!remote || !e.details().function.empty()) return error;
    CrashDetails details = e.details();
    // The arguments are gone: the outcome lies where they did.
    details.function = describe_call(run, {}, 0).function;
    return pickle::detail::make_remote(LimitExceeded(std::move(details)),
                                       std::make_shared<const RemoteDetails>(*remote));
  } catch (...) {
    return error;
  }
}

std::string end_text(const process::Record& record) {
  process::Status status = process::status_of(record);
  if (status.phase() == process::Phase::failed) return os::refused(status.code(), "fork", "of a worker").what();
  if (int error = record.refused.load(std::memory_order_acquire))
    return os::refused(error, "setting up", "a worker").what();
  if (status.phase() == process::Phase::abandoned) return "its server died before it began";
  return crash_cause(details_of(record));
}

}  // namespace mp::pool
