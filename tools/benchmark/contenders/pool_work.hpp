// The work that all pools do, so that only the pools differ, and the loops around it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "contender.hpp"

namespace bench {

inline constexpr unsigned kWorkers = 2;

[[gnu::noinline]] inline long next(long n) { return n + 1; }

// The same, and now and then it says where it ran.
inline long next_in_stream(long n) {
  far_side(static_cast<std::size_t>(n));
  return next(n);
}

// A stream of tiny tasks: never more than this many in flight, each result asked for.
inline constexpr std::size_t kInFlight = 1024;

template <class Submit>
void stream_of(std::size_t count, Submit&& submit) {
  using Future = decltype(submit(0L));
  std::vector<Future> flight;
  flight.reserve(kInFlight);
  long sum = 0;
  std::size_t i = 0;
  for (; i < count && i < kInFlight; ++i) flight.push_back(submit(static_cast<long>(i)));
  for (; i < count; ++i) {
    Future& oldest = flight[i % kInFlight];
    if constexpr (requires { oldest.result(); }) sum += oldest.result();
    else sum += oldest.get();
    oldest = submit(static_cast<long>(i));
    near_side(i);
  }
  for (Future& rest : flight) {
    if constexpr (requires { rest.result(); }) sum += rest.result();
    else sum += rest.get();
  }
  if (sum != static_cast<long>(count) * static_cast<long>(count + 1) / 2) note("WRONG SUM");
}

template <class Measure, class Submit>
void measure_stream(Measure&& measure, std::size_t count, Submit&& submit) {
  stream_of(count / 10 + 1, submit);
  measure(count, [&] { stream_of(count, submit); });
}

inline std::vector<long> counting_up(std::size_t count) {
  std::vector<long> numbers(count);
  for (std::size_t i = 0; i < count; ++i) numbers[i] = static_cast<long>(i);
  return numbers;
}

template <class Range>
void check_sum(const Range& results, std::size_t count) {
  long sum = 0;
  for (long n : results) sum += n;
  if (sum != static_cast<long>(count) * static_cast<long>(count + 1) / 2) note("WRONG SUM");
}

// Prints the median of a map's time by items, in nanoseconds, once what it uses has been used before: one map is short, and what it
// finds asleep, or takes from the kernel, differs from one to the next.
template <class Map>
void time_map(std::size_t count, Map&& map) {
  for (int i = 0; i < 2; ++i) map();
  std::vector<double> took(size(15, 1));
  for (double& each : took) {
    const auto begin = Clock::now();
    map();
    each = nanoseconds(Clock::now() - begin) / static_cast<double>(count);
  }
  std::ranges::nth_element(took, took.begin() + static_cast<std::ptrdiff_t>(took.size() / 2));
  print("value", took[took.size() / 2]);
}

// The example prime's function, and numbers of its size.
[[gnu::noinline]] inline bool is_prime(std::uint64_t n) {
  if (n < 2) return false;
  if (n % 2 == 0) return n == 2;
  for (std::uint64_t d = 3; d <= n / d; d += 2)
    if (n % d == 0) return false;
  return true;
}
std::vector<std::uint64_t> large_numbers(std::size_t count, std::uint64_t seed);

// Milliseconds that `count` takes for the primes among a thousand large numbers, on average of several such sets: nearly all the time goes
// into thirty of the numbers, so that in a single set luck decides by some per cent how evenly they fall.
template <class Count>
void time_primes(double divisor, Count&& count) {
  constexpr std::uint64_t kSets = 4;
  double total = 0;
  for (std::uint64_t seed = 1; seed <= kSets; ++seed) {
    const auto numbers = large_numbers(size(1000, 4), seed);
    const auto begin = Clock::now();
    keep(count(numbers));
    total += nanoseconds(Clock::now() - begin) / 1e6;
  }
  print("value", total / kSets / divisor);
}

}  // namespace bench
