#include "mp/pickle/remote.hpp"

#include <signal.h>
#include <string.h>

#include <mutex>
#include <sstream>

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

std::string meaning(const CrashDetails& d) {
  const std::string address = hexadecimal(d.address);
  if (d.code <= 0) return d.code == SI_TKILL || d.address == 0 ? "" : "sent by process " + std::to_string(d.address);
  switch (d.signal) {
    case SIGSEGV:
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

std::string crash_cause(const CrashDetails& d) {
  if (d.signal == 0) return "exited with status " + std::to_string(d.exit_status);
  const char* name = ::sigabbrev_np(d.signal);
  std::string out = name != nullptr ? std::string("SIG") + name : "signal " + std::to_string(d.signal);
  if (const std::string more = meaning(d); !more.empty()) out += ", " + more;
  return out;
}

struct WorkerCrashed::Text {
  std::once_flag once;
  std::string full;
};

WorkerCrashed::WorkerCrashed(CrashDetails details)
    : Error(named(details.task, details.task_name) + (details.function.empty() ? "" : ' ' + details.function) +
            " crashed " + (details.worker.empty() ? "its worker" : details.worker) + " (pid " +
            std::to_string(details.pid) + "): " + crash_cause(details)),
      details_(std::make_shared<const CrashDetails>(std::move(details))),
      text_(std::make_shared<Text>()) {}

const char* WorkerCrashed::what() const noexcept {
  try {
    std::call_once(text_->once, [this] { text_->full = Error::what() + indented(details_->stack.text()); });
    return text_->full.c_str();
  } catch (...) {
    return Error::what();
  }
}

}  // namespace mp
