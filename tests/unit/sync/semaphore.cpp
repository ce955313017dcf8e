// Semaphore and BoundedSemaphore: counting, bounds, who holds the tokens, death.
#include <mp/sync/semaphore.hpp>

#include <doctest/doctest.h>

#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <mp/errors.hpp>
#include <mp/memory/arena.hpp>

#include "child.hpp"

using namespace std::chrono_literals;

namespace {

// A child that takes `n` tokens and is then killed.
void die_with(mp::Semaphore& semaphore, int n) {
  CHECK(test::in_child([&] {
          for (int i = 0; i < n; ++i)
            if (!semaphore.acquire(true, 10s)) return 1;
          ::raise(SIGKILL);
          return 2;
        }) == -SIGKILL);
}

}  // namespace

TEST_CASE_TEMPLATE("a semaphore lets as many in as it has tokens", S, mp::Semaphore, mp::BoundedSemaphore) {
  S semaphore(2);
  CHECK(semaphore.get_value() == 2);
  CHECK(semaphore.acquire());
  CHECK(semaphore.get_value() == 1);
  CHECK(semaphore.acquire());
  CHECK(semaphore.get_value() == 0);
  CHECK(semaphore.locked());
  CHECK_FALSE(semaphore.acquire(false));
  CHECK_FALSE(semaphore.acquire(true, 0ms));
  CHECK_FALSE(semaphore.acquire(true, -1s));
  auto took = test::time_of([&] { CHECK_FALSE(semaphore.acquire(true, 50ms)); });
  CHECK(took >= 50ms);
  CHECK(took < 5s);
  semaphore.release();
  CHECK(semaphore.get_value() == 1);
  semaphore.release();
  CHECK(semaphore.get_value() == 2);
  std::lock_guard guard(semaphore);
  CHECK(semaphore.get_value() == 1);
}

TEST_CASE("never more processes and threads are inside than there are tokens") {
  mp::Semaphore semaphore(3);
  test::Shared<std::atomic<int>> inside(0), most(0);
  auto work = [&](int) {
    for (int i = 0; i < 3000; ++i) {
      std::lock_guard guard(semaphore);
      int now = inside->fetch_add(1) + 1, seen = *most;
      while (seen < now && !most->compare_exchange_weak(seen, now)) {}
      if (i % 100 == 0) std::this_thread::yield();
      inside->fetch_sub(1);
    }
  };
  auto team = test::children(4, work);
  std::thread a(work, 0), b(work, 1);
  a.join();
  b.join();
  CHECK(test::all_succeed(team));
  CHECK(*most <= 3);
  CHECK(semaphore.get_value() == 3);
}

TEST_CASE("a Semaphore's value may rise above what it began with") {
  mp::Semaphore semaphore(1);
  semaphore.release();
  semaphore.release(3);
  CHECK(semaphore.get_value() == 5);
  for (int i = 0; i < 5; ++i) CHECK(semaphore.acquire(false));
  CHECK_FALSE(semaphore.acquire(false));
}

TEST_CASE("a BoundedSemaphore is never released beyond its bound, by however many at once") {
  mp::BoundedSemaphore semaphore(3);
  CHECK_THROWS_WITH_AS(semaphore.release(), "semaphore or lock released too many times", mp::ValueError);
  for (int i = 0; i < 3; ++i) CHECK(semaphore.acquire(false));
  CHECK_THROWS_AS(semaphore.release(4), mp::ValueError);
  CHECK(semaphore.get_value() == 0);
  test::Shared<std::atomic<int>> released(0), refused(0), mistaken(0);
  auto team = test::children(4, [&](int) {
    for (int i = 0; i < 2000; ++i) {
      try {
        semaphore.release();
        ++*released;
        if (semaphore.get_value() > 3) ++*mistaken;
      } catch (const mp::ValueError&) {
        ++*refused;
      }
    }
  });
  CHECK(test::all_succeed(team));
  CHECK(*released == 3);
  CHECK(*refused == 7997);
  CHECK(*mistaken == 0);
  CHECK(semaphore.get_value() == 3);
}

TEST_CASE("releasing none, or beyond all numbers, is an error") {
  mp::Semaphore semaphore(1);
  CHECK_THROWS_AS(semaphore.release(0), mp::ValueError);
  CHECK_THROWS_AS(semaphore.release(mp::Semaphore::kMaxValue), mp::ValueError);
  CHECK(semaphore.get_value() == 1);
  CHECK_THROWS_AS(mp::Semaphore(0x8000'0000u), mp::ValueError);
  mp::Semaphore large(mp::Semaphore::kMaxValue);
  CHECK(large.acquire(false));
  large.release();
}

TEST_CASE("release(n) wakes n who wait") {
  mp::Semaphore semaphore(0);
  test::Shared<std::atomic<int>> waiting(0);
  auto team = test::children(4, [&](int) {
    ++*waiting;
    return semaphore.acquire(true, 20s) ? 0 : 1;
  });
  REQUIRE(test::eventually([&] { return *waiting == 4; }));
  semaphore.release(4);
  CHECK(test::all_succeed(team));
  CHECK(semaphore.get_value() == 0);
}

TEST_CASE("used as a signal, each release is one acquire, between any processes") {
  mp::Semaphore items(0);
  constexpr int kEach = 5000;
  auto producers = test::children(2, [&](int) {
    for (int i = 0; i < kEach; ++i) items.release();
  });
  auto consumers = test::children(2, [&](int) {
    for (int i = 0; i < kEach; ++i)
      if (!items.acquire(true, 20s)) return 1;
    return 0;
  });
  CHECK(test::all_succeed(producers));
  CHECK(test::all_succeed(consumers));
  CHECK(items.get_value() == 0);
  CHECK_FALSE(items.acquire(true, 60ms));  // who ended with what it took is no dead owner of a signal
}

TEST_CASE("a token may be given back by another process than took it") {
  mp::BoundedSemaphore semaphore(2);
  CHECK(semaphore.acquire());
  CHECK(semaphore.acquire());
  CHECK(test::in_child([&] { semaphore.release(2); }) == 0);
  CHECK(semaphore.get_value() == 2);
  CHECK_THROWS_AS(semaphore.release(), mp::ValueError);
}

TEST_CASE_TEMPLATE("tokens of a killed holder are reported, and recover() returns them", S, mp::Semaphore,
                   mp::BoundedSemaphore) {
  S semaphore(3);
  die_with(semaphore, 2);
  CHECK(semaphore.get_value() == 1);
  CHECK(semaphore.acquire());  // one is left for the living
  auto took = test::time_of([&] { CHECK_THROWS_AS(semaphore.acquire(), mp::OwnerDied); });
  CHECK(took < 1s);
  CHECK_THROWS_AS(semaphore.acquire(true, 5s), mp::OwnerDied);
  CHECK(semaphore.recover());
  CHECK(semaphore.get_value() == 2);
  CHECK_FALSE(semaphore.recover());
  CHECK(semaphore.acquire(false));
  CHECK(semaphore.acquire(false));
  CHECK_FALSE(semaphore.acquire(true, 60ms));  // all holders live
  semaphore.release(3);
  CHECK(semaphore.get_value() == 3);
}

TEST_CASE("who waits for a token is told when its holder is killed meanwhile") {
  mp::Semaphore semaphore(1);
  test::Shared<std::atomic<int>> stage(0);
  test::Child holder([&] {
    semaphore.acquire();
    *stage = 1;
    for (;;) ::pause();
  });
  REQUIRE(test::eventually([&] { return *stage == 1; }));
  test::Child waiter([&] {
    *stage = 2;
    try {
      semaphore.acquire();
      return 1;
    } catch (const mp::OwnerDied& e) {
      return std::string(e.what()).find(std::to_string(holder.pid())) != std::string::npos ? 0 : 2;
    }
  });
  REQUIRE(test::eventually([&] { return *stage == 2; }));
  holder.kill();
  CHECK(test::time_of([&] { CHECK(waiter.wait() == 0); }) < 1s);
}

TEST_CASE("a killed waiter harms nobody") {
  mp::Semaphore semaphore(1);
  semaphore.acquire();
  test::Shared<std::atomic<int>> waiting(0);
  auto team = test::children(3, [&](int) {
    ++*waiting;
    semaphore.acquire();
    semaphore.release();
  });
  REQUIRE(test::eventually([&] { return *waiting == 3; }));
  team[0].kill();
  team[1].kill();
  semaphore.release();
  CHECK(team[2].wait() == 0);
  CHECK(semaphore.get_value() == 1);
}

TEST_CASE("more holders than the ledger has room for at first") {
  std::size_t before = mp::memory::bytes_in_use();
  {
    mp::Semaphore semaphore(100);
    test::Shared<std::atomic<int>> held(0);
    auto team = test::children(80, [&](int) {
      semaphore.acquire();
      ++*held;
      for (;;) ::pause();
    });
    REQUIRE(test::eventually([&] { return *held == 80; }));
    CHECK(semaphore.get_value() == 20);
    team.clear();
    CHECK(semaphore.recover());
    CHECK(semaphore.get_value() == 100);
  }
  CHECK(mp::memory::bytes_in_use() < before + 100'000);
}

TEST_CASE("copies are the same semaphore") {
  mp::Semaphore a(1), b = a, c(1);
  b.acquire();
  CHECK(a.get_value() == 0);
  CHECK(c.get_value() == 1);
  CHECK(a == b);
  CHECK(a != c);
  a.release();
}
