// OpenMP: loops only, its tasks have no futures.
#include <vector>

#include "contender.hpp"
#include "pool_work.hpp"

namespace bench {
namespace {

void map_ints() {
  std::size_t count = size(1'000'000, 2000);
  auto numbers = counting_up(count);
  auto once = [&] {
    std::vector<long> out(count);
#pragma omp parallel for num_threads(kWorkers)
    for (std::size_t i = 0; i < count; ++i) out[i] = next(numbers[i]);
    check_sum(out, count);
  };
  for (int i = 0; i < 2; ++i) once();
  time_per(count, once);
}

void prime() {
  auto numbers = large_numbers(size(1000, 4));
  std::vector<char> out(numbers.size());
#pragma omp parallel for num_threads(kWorkers)
  for (int i = 0; i < 1000; ++i) keep(i);
  auto begin = Clock::now();
#pragma omp parallel for num_threads(kWorkers) schedule(dynamic)
  for (std::size_t i = 0; i < numbers.size(); ++i) out[i] = is_prime(numbers[i]);
  print("value", nanoseconds(Clock::now() - begin) / 1e6);
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using namespace bench;
  return contend(argc, argv, {{{"map-ints", map_ints}, {"prime", prime}}});
}
