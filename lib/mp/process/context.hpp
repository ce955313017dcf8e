// Start methods: how a process comes to be, and which one is used when nobody says. Python's multiprocessing.context and
// .spawn. Differences: the default stays `fork` (Python 3.14: forkserver), because only it takes any callable; locks, queues
// and other shared objects belong to no context and work under each.
//
//   fork        a copy of the caller: any callable, no pickling, some 0.4 ms for a small process. Copies no threads.
//   spawn       the program executed afresh: main must begin with mp::freeze_support(). Callable and arguments are pickled.
//   forkserver  forked from one clean process, executed afresh for the caller at the first use; pickled as well.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mp {

enum class StartMethod : std::uint8_t { fork, spawn, forkserver };
inline constexpr StartMethod fork = StartMethod::fork;
inline constexpr StartMethod spawn = StartMethod::spawn;
inline constexpr StartMethod forkserver = StartMethod::forkserver;

std::string_view to_string(StartMethod method) noexcept;

class Process;

// A choice of start method: a value. Default-constructed it follows set_start_method() at each use.
class Context {
 public:
  Context() noexcept = default;
  Context(StartMethod method) noexcept : method_(method) {}

  // The method that a process started now would get; for the default context this settles the program's method, as
  // Python's does.
  StartMethod method() const;
  StartMethod get_start_method() const { return method(); }

  // mp::Process({.context = *this}, f, args...): include <mp/process.hpp>.
  template <class F, class... Args>
  mp::Process Process(F&& f, Args&&... args) const;

  friend bool operator==(const Context&, const Context&) noexcept = default;

 private:
  std::optional<StartMethod> method_;
};

// Throws ValueError for an unknown name.
Context get_context();
Context get_context(StartMethod method);
Context get_context(std::string_view name);

// Chooses for the whole program; children inherit it. Throws ValueError when it was chosen (or used) already, unless `force`;
// nothing with `force` makes it unchosen again.
void set_start_method(std::optional<StartMethod> method, bool force = false);
void set_start_method(std::string_view name, bool force = false);
StartMethod get_start_method();
std::optional<StartMethod> get_start_method_if_set() noexcept;
std::vector<StartMethod> get_all_start_methods();  // the default first

// The first line of main. In a process executed by spawn or forkserver it runs what that was started for, and does not
// return; in any other it returns at once. Without it those two methods are refused with an Error.
void freeze_support();

// The program that spawn and forkserver execute: /proc/self/exe unless set here. It must be the same build.
void set_executable(std::string path);

namespace process {

// Throws Error where spawn or forkserver cannot work or would not end: freeze_support() was not called.
void require_freeze_support();
std::string executable();

}  // namespace process
}  // namespace mp
