// What a root does: real work of all kinds, each piece with an exact account of what came of it. Pieces follow each other at
// random; the root's own threads are the library's only.
//
//   pools.cpp      tasks of every outcome, maps, nested pools; under fork, spawn and forkserver
//   channels.cpp   Queue, JoinableQueue, Pipe between processes of all three kinds
//   shared.cpp     Value and Array under locks whose owners die
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include <mp/mp.hpp>

#include "report.hpp"

namespace soak {

using Random = std::mt19937_64;

inline std::uint64_t mix(std::uint64_t x) noexcept {
  x = (x ^ (x >> 31)) * 0x9e3779b97f4a7c15;
  return x ^ (x >> 29);
}

inline mp::Context any_context(Random& random) {
  switch (random() % 4) {
    case 0: return mp::spawn;
    case 1: return mp::forkserver;
    default: return mp::fork;
  }
}

// Starts a daemonic process. Tries again where the process that was to fork it has been killed meanwhile.
template <class F, class... Args>
mp::Process start(Report& report, mp::Context context, F f, const Args&... args) {
  for (;;) {
    mp::Process process({.daemon = true, .context = context}, f, args...);
    try {
      process.start();
      return process;
    } catch (const mp::Error& e) {
      report.blame(Count::wrong, e.what());
    }
  }
}

// How often each task has run. Tickets are given out in a circle; when one's turn comes again, and at the end, its count must still be
// what it was when the task was done.
class Tickets {
 public:
  static constexpr std::size_t kMost = 1 << 20;
  using Runs = mp::RawArray<std::uint32_t>;

  explicit Tickets(Report& report) : report_(report), runs_(kMost), settled_(kMost) {}

  const Runs& runs() const noexcept { return runs_; }
  std::uint32_t take();
  std::uint32_t count(std::uint32_t ticket) const noexcept;
  // The task with this ticket is done and may not run again. `most`: how often it may have; `least`: must have.
  void settle(std::uint32_t ticket, std::uint32_t least, std::uint32_t most);
  // Nobody waits for it: it may run once.
  void abandon(std::uint32_t ticket) noexcept { settled_[ticket] = kAbandoned; }
  void check_all();

 private:
  static constexpr std::uint32_t kUnused = 0, kAbandoned = UINT32_MAX;  // else runs + 1
  void check(std::uint32_t ticket);

  Report& report_;
  Runs runs_;
  std::vector<std::uint32_t> settled_;
  std::uint64_t next_ = 0;
};

class Pools {
 public:
  static constexpr unsigned kWorkers = 2, kPools = 4, kZygotes = 2;
  // A pool's workers, who forks them, and a zygote's heir.
  static constexpr std::uint64_t kProcesses = kPools * (kWorkers + 1) + kZygotes;

  explicit Pools(Report& report);

  void tasks(Random& random);
  void map(Random& random);
  void strings(Random& random);
  void nested(Random& random);

  // Gives each pool something to do: then it notices who is missing. And a crash: what it opens for its first is open then.
  void settle_down();
  void check_all() { tickets_.check_all(); }

 private:
  mp::ProcessPoolExecutor& any(Random& random) { return executors_[random() % executors_.size()]; }
  template <class R, class Check>
  void settle(mp::Future<R>& future, std::uint32_t ticket, std::uint32_t attempts, bool may_fail, Check&& check);
  template <class Result, class Check>
  void settle_items(Result& results, std::uint32_t first, std::size_t count, Check&& check);

  Report& report_;
  Tickets tickets_;
  std::vector<mp::ProcessPoolExecutor> executors_;  // fork, spawn, forkserver
  mp::Pool pool_;
  std::atomic<std::uint64_t> called_back_{0};
};

void queues(Report& report, Random& random);
void joinable_queues(Report& report, Random& random);
void pipes(Report& report, Random& random);
void values(Report& report, Random& random);
void arrays(Report& report, Random& random);

// The root: works for `seconds`, then ends as a program does. 0 for ever: it is to be killed.
int run_root(Report& report, std::uint64_t seed, double seconds);

}  // namespace soak
