// Sends signals to processes below another one: at random, but in an order that its seed decides. It is outside of the
// family that it hurts, and knows of it only what /proc tells.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <random>

namespace soak {

class Killer {
 public:
  using Clock = std::chrono::steady_clock;

  struct Sent {
    std::uint64_t kill = 0, term = 0, stop = 0;
    std::uint64_t kills() const noexcept { return kill + term; }
  };

  Killer(std::uint64_t seed, double rate) : random_(seed), rate_(rate) {}

  // What is due by now: SIGKILL (six of seven) and SIGTERM at the rate, a SIGSTOP for every fourth of them, and a SIGCONT 1 to 30 ms
  // after each stop. Never to `spared`, the root itself.
  void act(pid_t top, pid_t spared);
  // Lets those go on that have stood long enough.
  void resume() { resume(Clock::now()); }
  // Lets all stopped processes go on, and begins a new account of what is due: for what was not sent meanwhile nothing is made up.
  void rest();
  const Sent& sent() const noexcept { return sent_; }

 private:
  struct Stopped {
    pid_t pid;
    Clock::time_point until;
  };
  void resume(Clock::time_point now);
  pid_t victim(pid_t top, pid_t spared);

  std::mt19937_64 random_;
  const double rate_;  // kills a second
  Clock::time_point next_{};
  std::deque<Stopped> stopped_;
  Sent sent_;
};

}  // namespace soak
