// A stranger's program: four squares from a pool of processes.
#include <mp/mp.hpp>

#include <iostream>
#include <vector>

int square(int n) { return n * n; }

int main() {
  mp::freeze_support();
  mp::ProcessPoolExecutor pool(2);
  const std::vector<int> numbers{1, 2, 3, 4};
  int sum = 0;
  for (int n : pool.map(square, numbers)) sum += n;
  std::cout << sum << '\n';
  return sum == 30 ? 0 : 1;
}
