// OpenMP: loops only, its tasks have no futures.
#include <algorithm>
#include <vector>

#include "contender.hpp"
#include "pool_work.hpp"

namespace bench {
namespace {

void map_ints() {
  std::size_t count = size(1'000'000, 2000);
  auto numbers = counting_up(count);
  time_map(count, [&] {
    std::vector<long> out(count);
#pragma omp parallel for num_threads(kWorkers)
    for (std::size_t i = 0; i < count; ++i) out[i] = next(numbers[i]);
    check_sum(out, count);
  });
}

void prime() {
#pragma omp parallel for num_threads(kWorkers)
  for (int i = 0; i < 1000; ++i) keep(i);
  time_primes(1, [](const auto& numbers) {
    std::vector<char> out(numbers.size());
#pragma omp parallel for num_threads(kWorkers) schedule(dynamic)
    for (std::size_t i = 0; i < numbers.size(); ++i) out[i] = is_prime(numbers[i]);
    return std::ranges::count(out, 1);
  });
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using namespace bench;
  return contend(argc, argv, {{{"map-ints", map_ints}, {"prime", prime}}});
}
