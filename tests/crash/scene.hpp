// What the harness plays: a scene is one operation on an object in one state, together with what must be true after the process
// that runs it was killed in the middle. README.md tells how; stepper.hpp kills, play.hpp goes through all instructions.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace crash {

using namespace std::chrono_literals;

// What survivors may take for their script. A hang, not a delay: delays are measured, the machine may be busy.
inline constexpr std::chrono::seconds kLimit{10};
// And for all of it: what a script with a time limit of its own made good only when that was over has hung, too.
inline constexpr std::chrono::seconds kTooLong{6};

// How the victim ended.
struct Fate {
  bool finished;  // it had come to the end of the operation
  bool blocked;   // it slept inside, or had slept
};

// One life of the objects of a scene, made anew for each kill in the process that then steps and survives ("the survivor").
struct Act {
  std::function<void()> prepare = {};    // in the victim, before its steps are counted
  std::function<void()> operation = {};  // in the victim: what is stepped
  std::function<void()> before = {};     // in the survivor, when the victim stands before the operation
  std::function<void()> unblock = {};    // in the survivor, when the victim sleeps in the operation for the first time
  std::function<void(Fate)> survive = {};  // in the survivor, after the kill: script and invariants; throws Violation
  // Instead of prepare and operation: a process that already runs and is to be stepped, from where begin() was called to where it calls
  // end(). It sleeps, in await_stepper() unless begin() was called for it.
  std::function<pid_t()> victim = {};
  bool exits = false;  // the operation ends with the victim's process, which is its parent's to reap
};

struct Scene {
  std::string room, name;
  std::function<Act()> make;
};
using Scenes = std::vector<Scene>;

// One function a file of scenes/.
void add_memory(Scenes& scenes);
void add_locks(Scenes& scenes);
void add_signals(Scenes& scenes);
void add_queues(Scenes& scenes);
void add_pipes(Scenes& scenes);
void add_values(Scenes& scenes);
void add_tasks(Scenes& scenes);
void add_maps(Scenes& scenes);
void add_processes(Scenes& scenes);

struct Violation : std::runtime_error {
  using runtime_error::runtime_error;
};
inline void expect(bool true_now, const std::string& what) {
  if (!true_now) throw Violation(what);
}
template <class A, class B>
void expect_equal(const A& got, const B& wanted, const std::string& what) {
  if (!(got == wanted)) throw Violation(what + ": " + std::to_string(got) + " instead of " + std::to_string(wanted));
}

// ---- between victim and stepper, in memory of their own ------------------------------------------------------------

struct Stage {
  std::atomic<int> begun, over, may_go;
  std::atomic<pid_t> pid;
  std::atomic<std::uint32_t> tag;      // the victim's in its family
  std::atomic<std::uint64_t> word[4];  // what a scene's victim tells its survivor, 0 at first
};
extern Stage* const stage;  // the one, shared by all processes of a scene

// For a victim that already runs: says that it is here, and sleeps until it is stepped; then the operation begins, and ends.
void await_stepper();
inline void begin() { stage->begun.store(1, std::memory_order_seq_cst); }
inline void end() { stage->over.store(1, std::memory_order_seq_cst); }

// ---- peers: other processes that have to do with the object while the victim is killed -----------------------------

// A forked process that runs `f`, on another CPU than the victim where there is one. What f throws is its failure.
class Peer {
 public:
  explicit Peer(std::function<void()> f);
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  ~Peer();  // killed if it still runs, and its place in the family is freed

  // Waits until it has ended; throws Violation, naming `what` it was doing, if it failed or hangs.
  void finish(const std::string& what);
  bool running();
  // Waits until it sleeps in a system call, as far as the kernel tells.
  void await_sleep();
  pid_t pid() const { return pid_; }

 private:
  struct Report {
    std::atomic<std::uint32_t> tag;
    char text[240];
  };
  bool reap(int options);
  Report* report_;
  pid_t pid_;
  int status_ = 0;
  bool ended_ = false;
};

// Calls `ready` until it is true; throws Violation after kLimit.
template <class Ready>
void await(Ready&& ready, const std::string& what);
void nap();  // some 100 us

template <class Ready>
void await(Ready&& ready, const std::string& what) {
  const auto until = std::chrono::steady_clock::now() + kLimit;
  while (!ready()) {
    if (std::chrono::steady_clock::now() > until) throw Violation("hangs: " + what);
    nap();
  }
}

}  // namespace crash
