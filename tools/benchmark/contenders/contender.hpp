// What all contenders written in C++ share: a program that measures one thing, once, and prints the figures. The driver
// runs programs, Python scripts and MPI programs alike, in turns; what they print is lines of "KEY VALUE":
//
//   value 143.2          in the unit of the case
//   p50, p99, p99.9      of a latency; samples: of how many
//   syscalls, allocations    per operation: of this process and all it started
//   slept-percent        of the calls timed, those in which the caller slept; else it spun
//   two-cores-percent    of the calls or messages looked at, those answered or taken on another core
//   note TEXT            what else there is to say
//   missing              what it needs is not there
//
// A program is called `PROGRAM CASE [quick]`; quick sizes are only for seeing that everything is alive.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "syscalls.hpp"

namespace bench {

using Clock = std::chrono::steady_clock;

struct Entry {
  const char* name;
  void (*run)();
};

// The whole main of a contender; its exit status.
int contend(int argc, char** argv, std::initializer_list<std::vector<Entry>> tables);

// Full size, or the one for a sign of life; less while counting is slow.
std::size_t size(std::size_t full, std::size_t quick);

void print(const char* key, double value);
void note(const std::string& text);

// Keeps the compiler from leaving out what computes `value`.
template <class T>
inline void keep(const T& value) {
  asm volatile("" : : "r,m"(value) : "memory");
}

inline double nanoseconds(Clock::duration d) { return std::chrono::duration<double, std::nano>(d).count(); }

int cpu();  // that this thread runs on

// Where the sides of a stream run: the far one leaves its CPU now and then, the near one compares it with its own. To be
// called with each message's number; all but one in kLook cost no more than that comparison.
inline constexpr std::size_t kLook = 256;
void leave_cpu();
void compare_cpu();
inline void far_side(std::size_t n) {
  if (n % kLook == 0) [[unlikely]]
    leave_cpu();
}
inline void near_side(std::size_t n) {
  if (n % kLook == 0) [[unlikely]]
    compare_cpu();
}
void forget_cores();
void print_cores();  // nothing if nobody looked

// Prints `value`: nanoseconds of `work()` for each of `count` operations.
template <class Work>
void time_per(std::size_t count, Work&& work) {
  forget_cores();
  auto begin = Clock::now();
  work();
  print("value", nanoseconds(Clock::now() - begin) / static_cast<double>(count));
  print_cores();
}

// Prints the median of single latencies as value, and the percentiles, in nanoseconds.
void print_latencies(std::vector<double> nanoseconds);

// Voluntary context switches of this thread so far: who did not switch has spun.
long switches();
void wait(std::chrono::microseconds gap);
void print_slept(long times, std::size_t calls);  // some calls sleep more than once

// Times `count` calls of op() one by one, waiting `gap` before each so that everybody falls asleep, and prints in how many
// of them the caller slept: in the others it spun (or had the answer at once).
template <class Op>
void time_each(std::size_t count, std::chrono::microseconds gap, Op&& op) {
  std::vector<double> took;
  took.reserve(count);
  long slept = -switches();
  for (std::size_t i = 0; i < count; ++i) {
    if (gap.count()) wait(gap);
    auto begin = Clock::now();
    op();
    took.push_back(nanoseconds(Clock::now() - begin));
  }
  slept += switches();
  if (gap.count()) slept -= static_cast<long>(count);
  print_slept(slept, count);
  print_latencies(std::move(took));
}

// Runs this process, and what it starts from now on, on the nth of the CPUs it may use (on the last if there are fewer).
void pin_to_cpu(int nth);

// Counts system calls and calls of operator new, here and in all that this process starts after the object was made.
class Counted {
 public:
  Counted();
  ~Counted();

  // Prints both for each of `count` operations that work() does.
  template <class Work>
  void per(std::size_t count, Work&& work) {
    start();
    work();
    stop(count);
  }

 private:
  void start();
  void stop(std::size_t count);
  SyscallCounter syscalls_;
};

// scene(measure) sets everything up, calls measure(count, pass) with what does `count` operations, and tears it down: once
// to be timed, and once more to be counted, since being counted slows a process down.
template <class Scene>
void time_then_count(Scene&& scene) {
  scene([](std::size_t count, auto&& pass) { time_per(count, pass); });
  Counted counted;
  scene([&](std::size_t count, auto&& pass) { counted.per(count, pass); });
}

// Prints how often the two sides of a round trip ran on different cores; other_side() is sched_getcpu() over there.
template <class OtherSide>
void note_cores(OtherSide&& other_side) {
  int two = 0;
  constexpr int kLooks = 50;
  for (int i = 0; i < kLooks; ++i) two += other_side() != cpu();
  print("two-cores-percent", 100. * two / kLooks);
}

}  // namespace bench
