// Who ran it: the same four tasks on a process pool and on a thread pool. Task n works n seconds and returns its number and
// the process that ran it: four processes on the first pool, one and the same on the second.
//
//   process_id [--scale FACTOR]      a task works n * FACTOR seconds; where that is next to nothing, a worker may run several
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <iostream>
#include <ranges>
#include <set>
#include <thread>
#include <utility>

#include <mp/mp.hpp>

namespace {

std::pair<int, pid_t> do_work(int n, double scale) {
  std::this_thread::sleep_for(n * std::chrono::duration<double>(scale));
  return {n, mp::current_process().pid()};
}

// Works for every executor. Returns the processes that were seen.
std::set<pid_t> show(mp::Executor auto&& executor, double scale) {
  std::set<pid_t> seen;
  for (auto [n, pid] : executor.map([scale](int n) { return do_work(n, scale); }, std::views::iota(1, 5))) {
    std::cout << "ran task " << n << " in process " << pid << std::endl;
    seen.insert(pid);
  }
  return seen;
}

}  // namespace

int main(int argc, char** argv) {
  mp::freeze_support();
  double scale = 1;
  CLI::App app("Shows which process ran which task.");
  app.add_option("--scale", scale, "a task works its number times this many seconds")->check(CLI::NonNegativeNumber);
  CLI11_PARSE(app, argc, argv);

  auto processes = show(mp::ProcessPoolExecutor(4), scale);
  auto threads = show(mp::ThreadPoolExecutor(4), scale);
  if (processes.contains(::getpid()) || threads != std::set{::getpid()}) {
    std::cerr << "process_id: expected other processes, then this one\n";
    return 1;
  }
}
