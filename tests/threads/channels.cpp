#include <doctest/doctest.h>

#include <atomic>
#include <string>

#include <mp/mp.hpp>

#include "support.hpp"

TEST_CASE("every item of a queue comes once, small or large, bounded or not") {
  constexpr int kItems = 1500;
  for (int maxsize : {0, 8}) {
    mp::Queue<std::string> queue(maxsize);
    std::atomic<long> bytes{0}, items{0};
    test::in_threads(4, [&](int n) {
      for (int i = 0; i < kItems; ++i) {
        if (n % 2) {
          queue.put(std::string(i % 100 == 0 ? 20'000 : static_cast<std::size_t>(i % 50), 'x'));
        } else {
          bytes += static_cast<long>(queue.get().size());
          ++items;
        }
      }
    });
    long expected = 0;
    for (int i = 0; i < kItems; ++i) expected += 2 * (i % 100 == 0 ? 20'000 : i % 50);
    CHECK(items == 2 * kItems);
    CHECK(bytes == expected);
    CHECK(queue.empty());
  }
}

TEST_CASE("a JoinableQueue is joined when all is done") {
  mp::JoinableQueue<long> queue;
  long done = 0;
  mp::Lock lock;
  for (long i = 0; i < 400; ++i) queue.put(i);
  test::in_threads(3, [&](int n) {
    if (n == 0) {
      queue.join();
      std::lock_guard guard(lock);
      CHECK(done == 400);
      return;
    }
    for (int i = 0; i < 200; ++i) {
      queue.get();
      {
        std::lock_guard guard(lock);
        ++done;
      }
      queue.task_done();
    }
  });
}

TEST_CASE("both ends of a pipe, a thread each") {
  auto [a, b] = mp::Pipe();
  std::atomic<long> wrong{0};
  test::in_threads(2, [&](int n) {
    for (long i = 0; i < 2000; ++i) {
      if (n == 0) {
        a.send(i);
        wrong += a.recv<long>() != i + 1;
      } else {
        b.send(b.recv<long>() + 1);
      }
    }
  });
  CHECK(wrong == 0);
}
