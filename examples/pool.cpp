// Pool: the map family. Input may be any range, also one that never ends; the results come as a range.
#include <functional>
#include <iostream>
#include <ranges>
#include <string>
#include <utility>
#include <vector>

#include <mp/mp.hpp>

long square(long x) { return x * x; }
std::string twice(std::string s) { return s + s; }

int main() {
  mp::Pool pool(4);
  std::vector<long> numbers{1, 2, 3, 4, 5};
  std::vector<long> squares = pool.map(square, numbers);

  std::vector<std::pair<int, int>> pairs{{1, 2}, {3, 4}};
  std::vector<int> sums = pool.starmap(std::plus<>{}, pairs);

  int k = 7;
  std::vector<long> scaled = pool.map([k](long x) { return x * k; }, numbers);

  long taken = 0, total = 0;
  for (long y : pool.imap(square, std::views::iota(1L))) {  // lazy: only a few are ever asked for
    total += y;
    if (++taken == 10) break;
  }
  auto later = pool.apply_async(twice, std::string("ha"));
  std::string laugh = later.get();

  for (long y : squares) std::cout << y << ' ';
  std::cout << "| " << sums[0] << ' ' << sums[1] << " | " << scaled[4] << " | " << total << " | " << laugh << std::endl;
  return squares == std::vector<long>{1, 4, 9, 16, 25} && sums == std::vector<int>{3, 7} && scaled[4] == 35 &&
                 total == 385 && laugh == "haha"
             ? 0
             : 1;
}
