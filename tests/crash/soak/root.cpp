#include <dirent.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <thread>

#include <mp/memory/arena.hpp>
#include <mp/memory/family.hpp>

#include "tree.hpp"
#include "workload.hpp"

namespace soak {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

std::uint64_t entries(const char* path) {
  std::uint64_t count = 0;
  DIR* directory = ::opendir(path);
  while (directory && ::readdir(directory)) ++count;
  if (directory) ::closedir(directory);
  return count - 2 - (path == std::string_view("/proc/self/fd"));  // "." and "..", and its own
}

// Processes: all but the root, whose own children are not all there is: an heir whose parent was killed is the watchdog's.
Gauge look() {
  mp::memory::sweep();
  return {mp::memory::bytes_in_use(), entries("/proc/self/fd"), entries("/proc/self/task"),
          below(::getppid()).size() - 1};
}

// A process that was ordered, but not made when its maker died, keeps its place for that long, should it come after all (memory/family.cpp).
constexpr Clock::duration kBirth = 6s;

void does_nothing() {}

// While nobody is killed and nothing is under way. Waits until every process that belongs there is there, and then until nothing
// changes any more; the watchdog has its eye on it.
Gauge measure(Report& report, Pools& pools, Clock::duration rest) {
  report.calm.store(1);
  while (!report.is_calm.load()) std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(rest);
  pools.settle_down();
  mp::Process last = start(report, mp::forkserver, does_nothing);  // so that the forkserver runs
  last.join();
  Gauge gauge = look();
  for (int same = 0; same < 5;) {
    std::this_thread::sleep_for(25ms);
    const Gauge now = look();
    same = now.processes == Pools::kProcesses + 1 && now.memory == gauge.memory &&
                   now.descriptors == gauge.descriptors && now.threads == gauge.threads
               ? same + 1
               : 0;
    gauge = now;
  }
  report.go_on();
  report.calm.store(0);
  return gauge;
}

}  // namespace

int run_root(Report& report, std::uint64_t seed, double seconds) {
  Random random(seed);
  const auto start = Clock::now();
  auto passed = [&](double part) {
    return seconds > 0 && Clock::now() - start >= std::chrono::duration<double>(seconds * part);
  };
  {
    report.doing = "pools begin";
    Pools pools(report);
    while (!passed(1)) {
      switch (random() % 12) {
        case 0: report.doing = "queue", queues(report, random); break;
        case 1: report.doing = "joinable queue", joinable_queues(report, random); break;
        case 2: report.doing = "pipe", pipes(report, random); break;
        case 3: report.doing = "value", values(report, random); break;
        case 4: report.doing = "array", arrays(report, random); break;
        case 5: report.doing = "nested pools", pools.nested(random); break;
        case 6: report.doing = "map of strings", pools.strings(random); break;
        case 7:
        case 8: report.doing = "map", pools.map(random); break;
        default: report.doing = "tasks", pools.tasks(random);
      }
      report.go_on();
      if (report.measured == 0 && passed(0.1)) {
        report.doing = "measuring";
        report.begin = measure(report, pools, 0s);
        report.measured = 1;
      }
    }
    report.doing = "measuring";
    report.end = measure(report, pools, kBirth);
    report.measured = 2;
    pools.check_all();
    report.doing = "pools end";
  }
  report.doing = "exit";
  return 0;
}

}  // namespace soak
