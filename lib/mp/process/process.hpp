// A function in a process of its own: Python's multiprocessing.Process. Where it differs: the object can be moved, and its
// destructor waits for the process (a daemonic one it ends first); daemonic processes may have children, and their
// parent's death, however it comes, ends them; args are std::thread's.
//
//   mp::Process p(work, 1, "two"s);            p.start();  p.join();  p.exitcode() == 0
//   mp::Process p({.name = "x", .daemon = true, .context = mp::spawn}, work, 1, "two"s);
//   struct Mine : mp::Process { void run() override { ... } };           // under fork only
//
// Exit codes: 0 when the function returns (whatever it returns), 1 when it throws (type and what() go to stderr under
// "Process NAME:"), n after std::exit(n) or _exit(n), -N for signal N. Before it ends, a process terminates its daemonic
// children and joins the others; exit handlers that its own code registered run, those of its parent do not, nor
// do the destructors of its parent's globals (under spawn, the globals are its own, and are destroyed).
//
// *Thread and process safety*: start(), move and destruction from one thread; the rest as ProcessHandle. Only the process
// that made the object can start it; copies of it in fork children are inert.
// *If the caller is killed*: daemonic children die with it, by the kernel's hand; the others run on.
#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "mp/memory/ref.hpp"
#include "mp/pickle/callable.hpp"
#include "mp/process/context.hpp"
#include "mp/process/handle.hpp"

namespace mp {

struct ProcessOptions {
  std::string name = {};            // default: "Process-N", "Process-N:M" for the Mth child of the Nth, ...
  std::optional<bool> daemon = {};  // default: as its creator
  Context context = {};
};

namespace process {

struct Launched;

// The function and its arguments until start().
class Target {
 public:
  virtual ~Target() = default;
  virtual void call() = 0;
  virtual memory::Ref pack() const = 0;  // for a process that shares no memory; throws PicklingError
};

// An object in the arena that says what to call; `run` reads the rest from `w`.
memory::Ref make_call(void (*run)(pickle::Reader&), pickle::Writer& w);
// The entry of the process that has got it. Throws UnpicklingError if it is no call.
int run_call(memory::Offset payload);
void call_is_loaded() noexcept;
[[noreturn]] void refuse_to_pickle(const std::type_info& function);

template <class F, class... Args>
class TargetOf final : public Target {
 public:
  template <class G, class... A>
  explicit TargetOf(G&& f, A&&... args) : f_(std::forward<G>(f)),
                                          args_(std::forward<A>(args)...) {}

  [[gnu::hot]] void call() override { invoke(f_, args_); }

  memory::Ref pack() const override {
    if constexpr (pickle::SendableCall<F, Args...>) {
      pickle::Writer w;
      pickle::dump_callable(w, f_);
      std::apply([&](const Args&... arg) { (pickle::dump(w, arg), ...); }, args_);
      return make_call(&load_and_call, w);
    } else {
      refuse_to_pickle(typeid(F));
    }
  }

 private:
  [[gnu::hot]] static void invoke(F& f, std::tuple<Args...>& args) {
    std::apply([&f](Args&... arg) { static_cast<void>(std::invoke(f, std::move(arg)...)); }, args);
  }
  static void load_and_call(pickle::Reader& r) {
    if constexpr (pickle::SendableCall<F, Args...>) {
      F f = pickle::load_called<F>(r);
      std::tuple<Args...> args{pickle::load<Args>(r)...};
      call_is_loaded();
      invoke(f, args);
    }
  }
  F f_;
  std::tuple<Args...> args_;
};

// Arguments are stored as they would be sent, a string literal as std::string; where the function takes only the plain
// pointer, as std::thread does.
template <class F, class... Args>
auto make_target(F&& f, Args&&... args) {
  if constexpr (std::is_invocable_v<std::decay_t<F>&, pickle::Sent<Args>...>)
    return std::make_unique<TargetOf<std::decay_t<F>, pickle::Sent<Args>...>>(std::forward<F>(f),
                                                                              std::forward<Args>(args)...);
  else
    return std::make_unique<TargetOf<std::decay_t<F>, std::decay_t<Args>...>>(std::forward<F>(f),
                                                                              std::forward<Args>(args)...);
}

template <class F, class... Args>
concept Startable = !std::derived_from<std::decay_t<F>, Process> && !std::same_as<std::decay_t<F>, ProcessOptions> &&
                    (std::is_invocable_v<std::decay_t<F>&, pickle::Sent<Args>...> ||
                     std::is_invocable_v<std::decay_t<F>&, std::decay_t<Args>...>);

}  // namespace process

class Process : public ProcessHandle {
 public:
  // Runs run(), which does nothing unless overridden.
  explicit Process(ProcessOptions options = {});

  // Runs f(args...), each copied or moved into the object now.
  template <class F, class... Args>
    requires process::Startable<F, Args...>
  explicit Process(F&& f, Args&&... args)
      : Process(ProcessOptions{}, std::forward<F>(f), std::forward<Args>(args)...) {}
  template <class F, class... Args>
    requires process::Startable<F, Args...>
  Process(ProcessOptions options, F&& f, Args&&... args) : Process(std::move(options)) {
    memory::Recorder recorder;
    target_ = process::make_target(std::forward<F>(f), std::forward<Args>(args)...);
    held_ = recorder.objects();
  }

  Process(Process&&) noexcept;
  Process& operator=(Process&&) noexcept;  // ends its own process first, as the destructor does
  // Joins; a daemonic process gets SIGTERM first, and SIGKILL when that has not ended it within a second.
  virtual ~Process();

  // Starts the process, once; returns when it exists. The object's function and arguments are gone afterwards. Throws ValueError
  // (started already, another process's object), OSError (no process could be made: try again), SharedMemoryFull, and
  // under spawn and forkserver PicklingError and, where main forgot freeze_support(), Error.
  void start();

  void set_daemon(bool daemon);  // before start only: ValueError

  // What the child does: calls the function.
  virtual void run();

 private:
  void finish() noexcept;
  static int run_forked(void* process);
  process::Launched launch_by_fork(process::State& state);
  process::Launched launch_by_spawn(process::State& state);
  process::Launched launch_by_forkserver(process::State& state);

  Context context_;
  std::unique_ptr<process::Target> target_;
  std::vector<memory::Offset> held_;  // the shared objects whose handles the target holds
};

template <class F, class... Args>
mp::Process Context::Process(F&& f, Args&&... args) const {
  return mp::Process(ProcessOptions{.context = *this}, std::forward<F>(f), std::forward<Args>(args)...);
}

}  // namespace mp
