#include "killer.hpp"

#include <signal.h>

#include <algorithm>

#include "tree.hpp"

namespace soak {

using namespace std::chrono_literals;

// A pid that was listed a moment ago names the same process still: the kernel goes through all others before it gives one again.
pid_t Killer::victim(pid_t top, pid_t spared) {
  std::vector<pid_t> processes = below(top);
  std::erase(processes, spared);
  if (processes.empty()) return 0;
  return processes[random_() % processes.size()];
}

void Killer::resume(Clock::time_point now) {
  std::erase_if(stopped_, [&](const Stopped& s) {
    if (s.until > now) return false;
    ::kill(s.pid, SIGCONT);
    return true;
  });
}

void Killer::rest() {
  resume(Clock::time_point::max());
  next_ = {};
}

void Killer::act(pid_t top, pid_t spared) {
  const Clock::time_point now = Clock::now();
  resume(now);
  if (next_ == Clock::time_point{}) next_ = now;
  next_ = std::max(next_, now - 100ms);  // after a pause of this process it does not make up for all at once
  while (next_ <= now) {
    // Up to twice the mean, all equally likely.
    const double gap = 2.0 / rate_ * std::uniform_real_distribution<>(0, 1)(random_);
    next_ += std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(gap));
    if (random_() % 4 == 0) {
      if (const pid_t pid = victim(top, spared); pid && ::kill(pid, SIGSTOP) == 0) {
        stopped_.push_back({pid, now + std::chrono::milliseconds(1 + random_() % 30)});
        ++sent_.stop;
      }
    }
    const bool term = random_() % 7 == 0;
    if (const pid_t pid = victim(top, spared); pid && ::kill(pid, term ? SIGTERM : SIGKILL) == 0)
      ++(term ? sent_.term : sent_.kill);
  }
}

}  // namespace soak
