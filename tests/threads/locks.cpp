#include <doctest/doctest.h>

#include <atomic>
#include <mutex>
#include <thread>

#include <mp/mp.hpp>

#include "support.hpp"

using namespace std::chrono_literals;

// What is counted is plain memory: the sanitizer sees whether the lock orders it.

TEST_CASE_TEMPLATE("locks order what they protect", L, mp::Lock, mp::RLock) {
  L lock;
  long count = 0;
  test::in_threads(test::kThreads, [&](int) {
    L mine = lock;
    for (int i = 0; i < 5000; ++i) {
      std::lock_guard guard(mine);
      ++count;
    }
  });
  CHECK(count == test::kThreads * 5000);
}

TEST_CASE("a semaphore of one is a lock, and one of two lets two in") {
  mp::Semaphore one(1);
  long count = 0;
  test::in_threads(test::kThreads, [&](int) {
    for (int i = 0; i < 2000; ++i) {
      one.acquire();
      ++count;
      one.release();
    }
  });
  CHECK(count == test::kThreads * 2000);

  mp::BoundedSemaphore two(2);
  std::atomic<int> inside{0}, most{0};
  test::in_threads(test::kThreads, [&](int) {
    for (int i = 0; i < 1000; ++i) {
      two.acquire();
      const int now = ++inside;
      int seen = most;
      while (seen < now && !most.compare_exchange_weak(seen, now)) {}
      --inside;
      two.release();
    }
  });
  CHECK(most <= 2);
}

TEST_CASE("a condition hands over what was written under its lock") {
  mp::Condition condition;
  int turn = 0;
  long sum = 0;
  test::in_threads(test::kThreads, [&](int n) {
    for (int i = 0; i < 200; ++i) {
      std::lock_guard guard(condition);
      condition.wait_for([&] { return turn == n; });
      sum += n;
      turn = (turn + 1) % test::kThreads;
      condition.notify_all();
    }
  });
  CHECK(sum == 200 * (0 + 1 + 2 + 3));
}

TEST_CASE("an event and a barrier publish what came before") {
  mp::Event event;
  long value = 0;
  std::atomic<long> seen{0};
  test::in_threads(test::kThreads, [&](int n) {
    if (n == 0) {
      value = 42;
      event.set();
    } else {
      event.wait();
      seen += value;
    }
  });
  CHECK(seen == 42 * (test::kThreads - 1));

  mp::Barrier barrier(test::kThreads);
  long parts[test::kThreads] = {};
  std::atomic<long> wrong{0};
  test::in_threads(test::kThreads, [&](int n) {
    for (long round = 1; round <= 300; ++round) {
      parts[n] = round;
      barrier.wait();
      for (long part : parts) wrong += part != round;
      barrier.wait();
    }
  });
  CHECK(wrong == 0);
}

TEST_CASE("values and arrays") {
  mp::Value<long> number(0);
  mp::Array<long> array(16);
  test::in_threads(test::kThreads, [&](int) {
    for (int i = 0; i < 3000; ++i) {
      number += 1;
      std::lock_guard guard(array.get_lock());
      ++array[static_cast<std::size_t>(i % 16)];
    }
  });
  CHECK(number.value() == test::kThreads * 3000);
  long sum = 0;
  for (long part : array) sum += part;
  CHECK(sum == test::kThreads * 3000);
}
