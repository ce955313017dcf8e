// Plays one scene: once to learn its instructions, then once for each of them, with a kill there.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "scene.hpp"

namespace crash {

struct Plan {
  long sample = 0;  // kills a scene at most, chosen by `seed`; 0 = after every instruction
  std::uint64_t seed = 1;
  std::chrono::seconds limit{300};  // for the kills of one scene; what is left out then is counted
};

// What has been found, in memory that outlives the process which plays.
struct Report {
  static constexpr int kTexts = 6;
  struct Text {
    char text[500];
  };
  std::atomic<long> instructions, points, kills, asleep, violations, leaks, most_leaked, leaked;
  std::atomic<std::int64_t> worst_ns;
  std::atomic<long> worst_at;
  std::atomic<long> beat;        // changes as long as something goes on
  std::atomic<long> next_point;  // where the next to play begins, should this one hang
  std::atomic<long> step;        // where the victim was killed, or is
  std::atomic<std::uint64_t> address;
  std::atomic<const char*> doing;
  std::atomic<int> texts;
  Text text[kTexts];

  void say(const std::string& what);
};

// Returns when all is played; writes everything into `report`. Ends the process on errors of its own.
void play(const Scene& scene, const Plan& plan, Report& report);

// Function, file and line at an address of this program.
std::string place_of(std::uint64_t address);

}  // namespace crash
