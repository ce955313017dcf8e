#include "mp/process/context.hpp"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "mp/errors.hpp"
#include "mp/memory/family.hpp"
#include "mp/os/launch.hpp"
#include "mp/process/child.hpp"

namespace mp {
namespace {

constexpr int kUnset = -1;
std::atomic<int> chosen{kUnset};
std::atomic<bool> support_called{false};

// Written by set_executable(), which a program calls before it starts processes.
std::string& chosen_executable() {
  static std::string& path = *new std::string;
  return path;
}

StartMethod method_named(std::string_view name) {
  for (StartMethod method : get_all_start_methods())
    if (to_string(method) == name) return method;
  throw ValueError("cannot find context for '" + std::string(name) + "': there are fork, spawn and forkserver");
}

}  // namespace

std::string_view to_string(StartMethod method) noexcept {
  switch (method) {
    case StartMethod::fork: return "fork";
    case StartMethod::spawn: return "spawn";
    case StartMethod::forkserver: return "forkserver";
  }
  return "?";
}

StartMethod Context::method() const { return method_ ? *method_ : mp::get_start_method(); }

Context get_context() {
  get_start_method();
  return {};
}

Context get_context(StartMethod method) { return method; }

Context get_context(std::string_view name) { return method_named(name); }

void set_start_method(std::optional<StartMethod> method, bool force) {
  int wanted = method ? static_cast<int>(*method) : force ? kUnset : static_cast<int>(StartMethod::fork);
  int expected = kUnset;
  if (force) {
    chosen.store(wanted, std::memory_order_relaxed);
  } else if (!chosen.compare_exchange_strong(expected, wanted, std::memory_order_relaxed)) {
    throw ValueError("the start method has already been set to " +
                     std::string(to_string(static_cast<StartMethod>(expected))));
  }
}

void set_start_method(std::string_view name, bool force) { set_start_method(method_named(name), force); }

StartMethod get_start_method() {
  int now = kUnset;
  if (chosen.compare_exchange_strong(now, static_cast<int>(StartMethod::fork), std::memory_order_relaxed))
    return StartMethod::fork;
  return static_cast<StartMethod>(now);
}

std::optional<StartMethod> get_start_method_if_set() noexcept {
  int now = chosen.load(std::memory_order_relaxed);
  if (now == kUnset) return std::nullopt;
  return static_cast<StartMethod>(now);
}

std::vector<StartMethod> get_all_start_methods() {
  return {StartMethod::fork, StartMethod::spawn, StartMethod::forkserver};
}

void freeze_support() {
  bool again = support_called.exchange(true, std::memory_order_relaxed);
  if (again || !os::birth()) return;
  try {
    memory::start();
    memory::Offset record = memory::member(memory::self()).record.load(std::memory_order_acquire);
    if (!memory::is_object(record, memory::Kind::record)) throw Error("there is no record of what to run");
    process::live_entry(*memory::at<process::Record>(record), process::Role::spawned);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "mp: this process was executed as a child, but cannot be one: %s\n", e.what());
    ::_exit(1);
  }
}

void set_executable(std::string path) { chosen_executable() = std::move(path); }

namespace process {

void require_freeze_support() {
  if (support_called.load(std::memory_order_relaxed)) return;
  if (os::birth()) {
    // Such a child would run the whole program again, and start children that do the same.
    std::fputs(
        "mp: this process was executed as a child, but main does not begin with mp::freeze_support(); it ends here.\n",
        stderr);
    ::_exit(1);
  }
  throw Error(
      "spawn and forkserver execute this program again: let main begin with mp::freeze_support(), which turns that "
      "copy into the child");
}

std::string executable() { return chosen_executable().empty() ? "/proc/self/exe" : chosen_executable(); }

}  // namespace process
}  // namespace mp
