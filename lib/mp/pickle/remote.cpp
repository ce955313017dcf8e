#include "mp/pickle/remote.hpp"

#include <signal.h>

#include <cstring>
#include <iomanip>
#include <mutex>
#include <sstream>

#include "mp/os/signals.hpp"
#include "mp/pickle/crashed.hpp"

namespace mp {
namespace {

// Symbols are looked up seldom: one lock for all.
std::mutex& text_mutex() {
  static auto& mutex = *new std::mutex;
  return mutex;
}

std::string hexadecimal(std::uint64_t n) {
  std::ostringstream out;
  out << "0x" << std::hex << n;
  return out.str();
}

std::string seconds(std::uint64_t ns) {
  std::ostringstream out;
  out << static_cast<double>(ns) * 1e-9 << " s";
  return out.str();
}

std::string amount(Limit limit, std::uint64_t n) {
  const bool time = limit == Limit::wall_time || limit == Limit::cpu_time;
  return time ? seconds(n) : std::to_string(n) + " bytes";
}

std::string of_termination(const CrashDetails& d) {
  if (d.exception.empty()) return "std::terminate without an exception";
  return "std::terminate for " + d.exception + (d.exception_what.empty() ? "" : ": " + d.exception_what);
}

std::string meaning(const CrashDetails& d) {
  if (d.terminated) return of_termination(d);
  if (d.out_of_memory()) return "out of memory: by the kernel's OOM killer";
  const std::string address = hexadecimal(d.address);
  if (d.code <= 0) return d.code == SI_TKILL || d.address == 0 ? "" : "sent by process " + std::to_string(d.address);
  switch (d.signal) {
    case SIGSEGV:
      if (d.mapping.starts_with("stack guard")) return "stack overflow";
      switch (d.code) {
        case SEGV_MAPERR: return "address " + address + " not mapped";
        case SEGV_ACCERR: return "address " + address + " not accessible";
        case SI_KERNEL: return "address not canonical";
        default: return "address " + address;
      }
    case SIGBUS:
      switch (d.code) {
        case BUS_ADRALN: return "address " + address + " not aligned";
        case BUS_ADRERR: return "address " + address + " beyond the end of a mapped file";
        default: return "address " + address;
      }
    case SIGFPE:
      switch (d.code) {
        case FPE_INTDIV: return "integer division by zero";
        case FPE_INTOVF: return "integer overflow";
        case FPE_FLTDIV: return "floating-point division by zero";
        default: return "at address " + address;
      }
    case SIGILL: return "illegal instruction at address " + address;
    case SIGTRAP: return "trap at address " + address;
    default: return "";
  }
}

std::string indented(const std::string& lines) {
  std::string out;
  std::istringstream in(lines);
  for (std::string line; std::getline(in, line);) out += "\n  " + line;
  return out;
}

std::string named(std::uint64_t task, const std::string& name) {
  std::string out = task != 0 ? "task " + std::to_string(task) : "a task";
  if (!name.empty()) out += " \"" + name + '"';
  return out;
}

// What ran, and where: "task 7 "tile 7" render_tile(int)".
std::string subject(const CrashDetails& d) {
  std::string out = named(d.task, d.task_name);
  if (d.item) out += ", item " + std::to_string(*d.item) + ',';
  if (!d.function.empty()) out += ' ' + d.function;
  return d.arguments.empty() || d.arguments == "()" ? out : out + " with " + d.arguments;
}

std::string place(const CrashDetails& d) {
  return (d.worker.empty() ? "its worker" : d.worker) + " (pid " + std::to_string(d.pid) + ')';
}

std::string crash_headline(const CrashDetails& d) {
  return subject(d) + " crashed " + place(d) + ": " + crash_cause(d);
}

std::string limit_headline(const CrashDetails& d) {
  const std::string allowed = amount(d.limit, d.allowed), used = amount(d.limit, d.used);
  std::string out = subject(d);
  switch (d.limit) {
    case Limit::wall_time: out += " ran longer than its wall time limit of " + allowed; break;
    case Limit::cpu_time: out += " used more than its CPU time limit of " + allowed; break;
    case Limit::memory: out += " was refused memory beyond its memory limit of " + allowed; break;
    case Limit::file_size: out += " wrote beyond its file size limit of " + allowed; break;
    case Limit::output: out += " gave a result beyond its output limit of " + allowed; break;
    case Limit::none: break;
  }
  if (d.used != 0) out += " (" + used + ')';
  return out + " in " + place(d);
}

std::string mebibytes(std::uint64_t bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << static_cast<double>(bytes) / (1024 * 1024) << " MiB";
  return out.str();
}

}  // namespace

const std::string& RemoteDetails::stack_text() const {
  std::lock_guard guard(text_mutex());
  if (!text_.lines) text_.lines = std::make_shared<const std::string>(stack.text());
  return *text_.lines;
}

std::string RemoteDetails::report() const {
  std::string out = type + ": " + what;
  for (const std::string& inner : nested) out += "\n  caused by " + inner;
  if (task != 0 || !task_name.empty()) out += "\n  in " + named(task, task_name);
  if (!worker.empty() || pid != 0)
    out += "\n  in process " + worker + (worker.empty() ? "" : " ") + "(pid " + std::to_string(pid) + ')';
  return out + indented(stack_text());
}

RemoteError::RemoteError(std::shared_ptr<const RemoteDetails> details)
    : Error(details->what.empty() ? details->type : details->type + ": " + details->what),
      RemoteCarrier(std::move(details)) {}

const RemoteDetails* remote_of(const std::exception& e) noexcept {
  const auto* carrier = dynamic_cast<const RemoteCarrier*>(&e);
  return carrier != nullptr ? &carrier->details() : nullptr;
}

const RemoteDetails* remote_of(const std::exception_ptr& e) noexcept {
  if (!e) return nullptr;
  try {
    std::rethrow_exception(e);
  } catch (const RemoteCarrier& carrier) {
    return &carrier.details();  // lives as long as the exception that `e` holds
  } catch (...) {
    return nullptr;
  }
}

const char* to_string(Limit limit) noexcept {
  switch (limit) {
    case Limit::wall_time: return "wall time";
    case Limit::cpu_time: return "CPU time";
    case Limit::memory: return "memory";
    case Limit::file_size: return "file size";
    case Limit::output: return "output";
    case Limit::none: break;
  }
  return "none";
}

std::string crash_cause(const CrashDetails& d) {
  if (d.signal == 0) return "exited with status " + std::to_string(d.exit_status);
  std::string out = os::signal_name(d.signal);
  if (const std::string more = meaning(d); !more.empty()) out += ", " + more;
  return out;
}

struct CrashReport::Text {
  std::string headline;
  std::once_flag once;
  std::string stack, full;

  void complete(const CrashDetails& details) {
    std::call_once(once, [&] {
      stack = details.stack.text();
      full = headline + indented(stack);
    });
  }
};

CrashReport::CrashReport(CrashDetails details, std::string headline)
    : details_(std::make_shared<const CrashDetails>(std::move(details))),
      text_(std::make_shared<Text>()) {
  text_->headline = std::move(headline);
}

const std::string& CrashReport::headline() const noexcept { return text_->headline; }

const char* CrashReport::text() const noexcept {
  try {
    text_->complete(*details_);
    return text_->full.c_str();
  } catch (...) {
    return text_->headline.c_str();
  }
}

std::string CrashReport::report() const {
  const CrashDetails& d = *details_;
  std::string out = headline();
  const auto fact = [&out](const char* name, const std::string& value) {
    if (!value.empty()) out += "\n  " + std::string(name) + std::string(11 - std::strlen(name), ' ') + value;
  };
  if (d.limit != Limit::none)
    fact("limit", std::string(to_string(d.limit)) + ", " + amount(d.limit, d.allowed) + " allowed" +
                      (d.used != 0 ? ", " + amount(d.limit, d.used) + " used" : ""));
  if (d.signal != 0)
    fact("signal", os::signal_name(d.signal) +
                       (d.code != 0 ? " (" + os::signal_code_name(d.signal, d.code) + ')' : std::string()));
  else if (d.limit == Limit::none) fact("exit", "status " + std::to_string(d.exit_status));
  if (!d.mapping.empty()) fact("address", hexadecimal(d.address) + ": " + d.mapping);
  if (d.terminated) fact("terminate", of_termination(d));
  if (d.oom_kills)
    fact("OOM killer",
         std::to_string(*d.oom_kills) + (*d.oom_kills == 1 ? " kill" : " kills") + " counted in " + d.oom_counter);
  fact("task", named(d.task, d.task_name) + (d.item ? ", item " + std::to_string(*d.item) : ""));
  fact("function", d.function);
  fact("arguments", d.arguments);
  fact("worker", place(d));
  if (d.usage.peak_memory != 0)
    fact("used", seconds(d.usage.user_time) + " user, " + seconds(d.usage.system_time) + " system, " +
                     mebibytes(d.usage.peak_memory) + " at most, " + std::to_string(d.usage.minor_faults) + " minor, " +
                     std::to_string(d.usage.major_faults) + " major faults");
  text_->complete(d);
  if (!text_->stack.empty()) {
    out += "\n  stack";
    std::istringstream in(text_->stack);
    for (std::string line; std::getline(in, line);) out += "\n    " + line;
  }
  return out;
}

WorkerCrashed::WorkerCrashed(CrashDetails details, std::string headline)
    : Error(headline),
      CrashReport(std::move(details), std::move(headline)) {}

// The text is made before the details are moved from.
WorkerCrashed::WorkerCrashed(CrashDetails details) : WorkerCrashed(details, crash_headline(details)) {}

LimitExceeded::LimitExceeded(CrashDetails details) : WorkerCrashed(details, limit_headline(details)) {}

TaskTimeout::TaskTimeout(CrashDetails details)
    : TimeoutError(limit_headline(details)),
      CrashReport(details, limit_headline(details)) {}

}  // namespace mp
