#include "mp/os/cpu.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "mp/errors.hpp"
#include "mp/os/call.hpp"

namespace mp {
namespace {

// MP_CPU_COUNT, or 0 where it is not set. A value that is no positive number is an error that names it.
unsigned override_count() {
  const char* text = std::getenv("MP_CPU_COUNT");
  if (!text || !*text) return 0;
  char* end = nullptr;
  errno = 0;
  long n = std::strtol(text, &end, 10);
  if (errno || *end || n < 1 || n > 1'000'000)
    throw ValueError("MP_CPU_COUNT must be a positive number, not '" + std::string(text) + "'");
  return static_cast<unsigned>(n);
}

unsigned affinity_count() noexcept {
  // The kernel's mask may be wider than cpu_set_t: ask again with a larger set until it fits.
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
    cpu_set_t* set = CPU_ALLOC(cpus);
    if (!set) break;
    std::size_t size = CPU_ALLOC_SIZE(cpus);
    bool got = os::call_again(os::Call::getaffinity, [&] { return ::sched_getaffinity(0, size, set); }) == 0;
    int count = got ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (count > 0) return static_cast<unsigned>(count);
  }
  return 0;
}

// The quota of one cgroup directory in CPUs, or infinity: v2 "cpu.max" holds "max 100000" or "150000 100000".
double quota_of(const std::string& directory) {
  std::ifstream v2(directory + "/cpu.max");
  std::string quota;
  double period = 0;
  if (v2 >> quota >> period && quota != "max" && period > 0) return std::strtod(quota.c_str(), nullptr) / period;
  std::ifstream v1_quota(directory + "/cpu.cfs_quota_us"), v1_period(directory + "/cpu.cfs_period_us");
  double amount = 0;
  if (v1_quota >> amount && v1_period >> period && amount > 0 && period > 0) return amount / period;
  return HUGE_VAL;
}

// The tightest quota from this process's cgroup up to the root (a container sees its own as the root).
double cgroup_quota() {
  double least = HUGE_VAL;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "0::/path" (v2) or "4:cpu,cpuacct:/path" (v1)
    auto first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    std::string root = "/sys/fs/cgroup";
    if (!controllers.empty()) {
      if (controllers != "cpu" && controllers.rfind("cpu,", 0) != 0 && controllers.find(",cpu") == std::string::npos)
        continue;
      root += "/" + controllers;
    }
    for (;;) {
      least = std::min(least, quota_of(root + path));
      auto slash = path.rfind('/');
      if (slash == std::string::npos || path.empty()) break;
      path.resize(slash);
    }
  }
  return least;
}

}  // namespace

unsigned cpu_count() {
  if (unsigned n = override_count()) return n;
  long n = ::sysconf(_SC_NPROCESSORS_ONLN);
  return n > 0 ? static_cast<unsigned>(n) : 1;
}

unsigned process_cpu_count() {
  if (unsigned n = override_count()) return n;
  unsigned n = affinity_count();
  if (n == 0) n = cpu_count();
  double quota = cgroup_quota();
  if (quota < n) n = std::max(1u, static_cast<unsigned>(std::ceil(quota)));
  return n;
}

namespace os {

// Looked up at first use, by several threads if need be, but under no guard: a process forked while another thread held that would wait
// for it for ever.
bool spinning_pays() noexcept {
  enum : int { kUnknown, kYes, kNo };
  static std::atomic<int> known{kUnknown};
  int pays = known.load(std::memory_order_relaxed);
  if (pays == kUnknown) [[unlikely]]
    known.store(pays = affinity_count() > 1 ? kYes : kNo, std::memory_order_relaxed);
  return pays == kYes;
}

}  // namespace os
}  // namespace mp
