// Pools: one task after the other, streams, maps.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <mp/mp.hpp>

#include "ours.hpp"
#include "pool_work.hpp"

namespace bench {
namespace {

using namespace std::chrono_literals;

void stream() {
  time_then_count([](auto measure) {
    mp::ProcessPoolExecutor pool(kWorkers);
    measure_stream(measure, size(300'000, 2000), [&](long n) { return pool.submit(next_in_stream, n); });
  });
}

template <class Measure>
void with_awake_pool(Measure&& measure) {
  mp::ProcessPoolExecutor pool(kWorkers);
  auto once = [&] { keep(pool.submit(next, 1L).result()); };
  for (int i = 0; i < 100; ++i) once();
  measure(pool, once);
}

void round_trip(std::size_t count, std::chrono::microseconds gap) {
  with_awake_pool([&](auto& pool, auto& once) {
    time_each(count, gap, once);
    note_cores([&] { return pool.submit(cpu).result(); });
  });
  Counted counted;
  with_awake_pool([&](auto&, auto& once) {
    counted.per(count, [&] {
      for (std::size_t i = 0; i < count; ++i) {
        if (gap.count()) wait(gap);
        once();
      }
    });
  });
}
void awake() { round_trip(size(30'000, 200), 0us); }
void parked() { round_trip(size(600, 10), 1000us); }
void same_core() {
  pin_to_cpu(0);
  round_trip(size(5000, 100), 0us);
}

void map_ints() {
  mp::Pool pool(kWorkers);
  std::size_t count = size(1'000'000, 2000);
  auto numbers = counting_up(count);
  time_map(count, [&] { check_sum(pool.map(next, numbers), count); });
}

// From shared memory, where nothing need be copied on the way in.
void map_array() {
  mp::Pool pool(kWorkers);
  std::size_t count = size(1'000'000, 2000);
  mp::Array<long> numbers(count);
  std::ranges::copy(counting_up(count), numbers.begin());
  time_map(count, [&] { check_sum(pool.map(next, numbers), count); });
}

std::string shout(const std::string& word) { return word + "!"; }

// Too long for the string itself: each has memory of its own.
std::vector<std::string> words(std::size_t count) {
  std::vector<std::string> all(count);
  for (std::size_t i = 0; i < count; ++i) all[i] = "a word of forty characters, number " + std::to_string(10'000 + i);
  return all;
}

void map_strings() {
  mp::Pool pool(kWorkers);
  auto all = words(size(200'000, 1000));
  time_map(all.size(), [&] {
    std::vector<std::string> out = pool.map(shout, all);
    if (out.size() != all.size() || out.back() != all.back() + "!") note("WRONG RESULT");
  });
}

struct Reading {
  std::int32_t sensor = 0;
  double value = 0;
  std::string unit;
};
Reading doubled(Reading r) {
  r.value *= 2;
  return r;
}

void map_structs() {
  mp::Pool pool(kWorkers);
  std::vector<Reading> all(size(200'000, 1000), Reading{7, 1.5, "metre"});
  time_map(all.size(), [&] {
    std::vector<Reading> out = pool.map(doubled, all);
    if (out.size() != all.size() || out.back().value != 3) note("WRONG RESULT");
  });
}

void primes_on(unsigned workers) {
  mp::ProcessPoolExecutor pool(workers);
  pool.submit(next, 1L).result();
  time_primes(1, [&](const auto& numbers) {
    long primes = 0;
    for (bool prime : pool.map(is_prime, numbers)) primes += prime;
    return primes;
  });
}
void prime() { primes_on(kWorkers); }
void prime_on_one() { primes_on(1); }
void prime_on_all() { primes_on(mp::process_cpu_count()); }
// Only counts: what a perfect pool would make of that many.
void cpus() { print("value", mp::process_cpu_count()); }

}  // namespace

std::vector<Entry> pool_entries() {
  return {{"stream", stream},
          {"awake", awake},
          {"parked", parked},
          {"same-core", same_core},
          {"map-ints", map_ints},
          {"map-array", map_array},
          {"map-strings", map_strings},
          {"map-structs", map_structs},
          {"prime", prime},
          {"prime-on-one", prime_on_one},
          {"prime-on-all", prime_on_all},
          {"cpus", cpus}};
}

}  // namespace bench
