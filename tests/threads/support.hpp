// Runs one function in several threads at once.
#pragma once

#include <barrier>
#include <thread>
#include <vector>

namespace test {

inline constexpr int kThreads = 4;

// work(n) in thread n of `count`; they begin together. Returns when all are done.
template <class Work>
void in_threads(int count, Work&& work) {
  std::barrier together(count);
  std::vector<std::jthread> threads;
  for (int n = 0; n < count; ++n)
    threads.emplace_back([&, n] {
      together.arrive_and_wait();
      work(n);
    });
}

}  // namespace test
