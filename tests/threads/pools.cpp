#include <doctest/doctest.h>

#include <atomic>
#include <numeric>
#include <vector>

#include <mp/mp.hpp>

#include "support.hpp"

namespace {

long doubled(long n) { return 2 * n; }

}  // namespace

TEST_CASE("threads submit to one pool of threads, ask, cancel and call back") {
  mp::ThreadPoolExecutor pool(3);
  std::atomic<long> sum{0}, called{0}, cancelled{0};
  test::in_threads(test::kThreads, [&](int) {
    for (long i = 0; i < 500; ++i) {
      auto future = pool.submit(doubled, i);
      future.add_done_callback([&](auto&) { ++called; });
      if (i % 7 == 0 && future.cancel()) ++cancelled;
      else sum += future.result() - 2 * i;
    }
  });
  pool.shutdown();
  CHECK(sum == 0);
  CHECK(called == test::kThreads * 500);
}

TEST_CASE("a map on a pool of threads") {
  mp::ThreadPool pool(3);
  std::vector<long> numbers(5000);
  std::iota(numbers.begin(), numbers.end(), 0L);
  std::vector<long> out = pool.map(doubled, numbers);
  for (std::size_t i = 0; i < out.size(); ++i) CHECK(out[i] == 2 * static_cast<long>(i));
}

// The owner's side of a process pool: its threads and the supervisor. The workers are processes, which the sanitizer does not see together.
TEST_CASE("threads submit to one pool of processes, ask, drop and call back") {
  mp::ProcessPoolExecutor pool(2);
  std::atomic<long> wrong{0}, called{0};
  test::in_threads(test::kThreads, [&](int n) {
    for (long i = 0; i < 300; ++i) {
      auto future = pool.submit(doubled, i);
      if (n == 1) future.add_done_callback([&](auto& done) { wrong += done.result() < 0, ++called; });
      if (n != 2) wrong += future.result() != 2 * i;  // thread 2 drops them at once
    }
  });
  pool.shutdown();
  CHECK(wrong == 0);
  CHECK(called == 300);
}
