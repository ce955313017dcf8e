#include "mp/pool/failure.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "mp/errors.hpp"
#include "mp/os/symbol.hpp"
#include "mp/pickle/exception.hpp"

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

// "render_tile(int)" of the trampoline "void mp::pool::run_task<int (*)(int), int>(...)" is not to be had from its name;
// what can be told is the callable's type.
std::string callable_of(pickle::CodeRef run) {
  try {
    std::string name = os::symbol_at(pickle::code_address(run));
    auto begin = name.find('<');
    if (begin == std::string::npos) return name;
    int depth = 0;
    for (std::size_t i = begin + 1; i < name.size(); ++i) {
      char c = name[i];
      if (c == '<' || c == '(' || c == '{') ++depth;
      if (depth == 0 && (c == ',' || c == '>')) return name.substr(begin + 1, i - begin - 1);
      if (c == '>' || c == ')' || c == '}') --depth;
    }
    return name;
  } catch (const Error&) {
    return {};
  }
}

CrashDetails details_of(const process::Record& record) {
  CrashDetails d;
  int code = process::status_of(record).code();
  d.signal = code < 0 ? -code : 0;
  d.exit_status = code < 0 ? 0 : code;
  if (d.signal != 0 && record.crash.signal.load(std::memory_order_acquire) == d.signal) {
    d.code = record.crash.code;
    d.address = record.crash.address;
    d.stack = stack_of(record.crash);
  }
  d.worker = record.name;
  d.pid = record.pid.load(std::memory_order_relaxed);
  d.peak_memory = record.peak_bytes.load(std::memory_order_relaxed);
  return d;
}

}  // namespace

void dump_failure(pickle::Writer& out) {
  const process::Record* me = process::own_record();
  out.put(static_cast<std::int32_t>(::getpid()));
  out.put_text(me ? me->name : "");
  pickle::dump_exception(out, std::current_exception());
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

std::exception_ptr crash_of(const process::Record& record, std::uint64_t task, const std::string& task_name,
                            pickle::CodeRef run) {
  CrashDetails d = details_of(record);
  d.task = task;
  d.task_name = task_name;
  d.function = callable_of(run);
  return std::make_exception_ptr(WorkerCrashed(std::move(d)));
}

std::string end_text(const process::Record& record) {
  process::Status status = process::status_of(record);
  if (status.phase() == process::Phase::failed)
    return std::string("fork: ") + std::generic_category().message(status.code());
  if (status.phase() == process::Phase::abandoned) return "its server died before it began";
  return crash_cause(details_of(record));
}

}  // namespace mp::pool
