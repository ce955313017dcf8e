#include "pool_work.hpp"

#include <random>

namespace bench {

std::vector<std::uint64_t> large_numbers(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::uniform_int_distribution<std::uint64_t> any(100'000'000'000'000, 499'999'999'999'999);
  std::vector<std::uint64_t> numbers(count);
  for (auto& n : numbers) n = any(engine);
  return numbers;
}

}  // namespace bench
