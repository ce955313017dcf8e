// Lock and RLock as locks: who may hold and release them, time limits, the std forms. Death is in owner_died.cpp.
#include <mp/sync/lock.hpp>

#include <doctest/doctest.h>

#include <mutex>
#include <thread>

#include <mp/errors.hpp>

#include "child.hpp"

using namespace std::chrono_literals;

TEST_CASE_TEMPLATE("a lock lets one process in at a time", L, mp::Lock, mp::RLock) {
  L lock;
  test::Shared<long> counter(0);
  auto team = test::children(4, [&](int) {
    for (int i = 0; i < 20'000; ++i) {
      std::lock_guard guard(lock);
      *counter = *counter + 1;
    }
  });
  CHECK(test::all_succeed(team));
  CHECK(*counter == 80'000);
}

TEST_CASE_TEMPLATE("a lock lets one thread in at a time, beside other processes", L, mp::Lock, mp::RLock) {
  L lock;
  test::Shared<long> counter(0);
  auto add = [&] {
    for (int i = 0; i < 20'000; ++i) {
      std::lock_guard guard(lock);
      *counter = *counter + 1;
    }
  };
  auto team = test::children(2, [&](int) { add(); });
  std::thread a(add), b(add);
  a.join();
  b.join();
  CHECK(test::all_succeed(team));
  CHECK(*counter == 80'000);
}

TEST_CASE_TEMPLATE("a lock is free again when a block ends", L, mp::Lock, mp::RLock) {
  L one, two;
  {
    std::lock_guard guard(one);
    CHECK(one.locked());
  }
  CHECK_FALSE(one.locked());
  {
    std::unique_lock guard(one, std::defer_lock);
    CHECK_FALSE(one.locked());
    CHECK(guard.try_lock());
    guard.unlock();
    CHECK(guard.try_lock_for(1ms));
    guard.unlock();
    CHECK(guard.try_lock_until(std::chrono::system_clock::now() + 1ms));
  }
  CHECK_FALSE(one.locked());
  {
    std::scoped_lock guard(one, two);
    CHECK(one.locked());
    CHECK(two.locked());
  }
  CHECK_FALSE(one.locked());
  CHECK_FALSE(two.locked());
}

TEST_CASE_TEMPLATE("acquiring a held lock gives up when its time is over", L, mp::Lock, mp::RLock) {
  L lock;
  lock.acquire();
  CHECK(test::in_child([&] {
          if (lock.acquire(false)) return 1;
          if (lock.acquire(true, 0ms)) return 2;
          if (lock.acquire(true, -5s)) return 3;
          if (lock.try_lock_for(0ms) || lock.try_lock_until(std::chrono::steady_clock::now() - 1s)) return 4;
          if (test::time_of([&] { lock.acquire(true, 0ms); }) > 1s) return 5;
          auto waited = test::time_of([&] {
            if (lock.acquire(true, 50ms)) ::_exit(6);
          });
          return waited < 50ms ? 7 : waited > 5s ? 8 : 0;
        }) == 0);
  lock.release();
  CHECK(lock.acquire(true, 0ms));
  lock.release();
}

TEST_CASE_TEMPLATE("acquire without a time limit waits until the lock is free", L, mp::Lock, mp::RLock) {
  L lock;
  lock.acquire();
  test::Shared<std::atomic<int>> stage(0);
  test::Child child([&] {
    *stage = 1;
    lock.acquire();
    *stage = 2;
    lock.release();
  });
  CHECK(test::eventually([&] { return *stage == 1; }));
  std::this_thread::sleep_for(60ms);  // time is the subject: three slices of waiting
  CHECK(*stage == 1);
  lock.release();
  CHECK(child.wait() == 0);
  CHECK(*stage == 2);
}

TEST_CASE("a Lock may be released by another process and by another thread") {
  mp::Lock lock;
  lock.acquire();
  CHECK(test::in_child([&] { lock.release(); }) == 0);
  CHECK_FALSE(lock.locked());
  lock.acquire();
  std::thread([&] { lock.release(); }).join();
  CHECK_FALSE(lock.locked());
}

TEST_CASE("releasing a free Lock is an error that says so") {
  mp::Lock lock;
  CHECK_THROWS_WITH_AS(lock.release(), "semaphore or lock released too many times", mp::ValueError);
  CHECK(lock.acquire(false));
  lock.release();
  CHECK_THROWS_AS(lock.release(), mp::ValueError);
}

TEST_CASE("a Lock does not let its own holder in twice") {
  mp::Lock lock;
  lock.acquire();
  CHECK_FALSE(lock.acquire(false));
  CHECK_FALSE(lock.acquire(true, 5ms));
  lock.release();
}

TEST_CASE("an RLock counts how often its thread has taken it") {
  mp::RLock lock;
  for (int i = 0; i < 3; ++i) CHECK(lock.acquire());
  CHECK(lock.owned());
  lock.release();
  lock.release();
  CHECK(lock.locked());
  CHECK(test::in_child([&] { return lock.acquire(false) ? 1 : 0; }) == 0);
  lock.release();
  CHECK_FALSE(lock.locked());
  CHECK_FALSE(lock.owned());
  CHECK_THROWS_AS(lock.release(), mp::ValueError);
}

TEST_CASE("an RLock is released by nobody but the thread that holds it") {
  mp::RLock lock;
  lock.acquire();
  bool refused = false, owned = true, taken = true;
  std::thread([&] {
    owned = lock.owned();
    taken = lock.acquire(false);
    try {
      lock.release();
    } catch (const mp::ValueError&) {
      refused = true;
    }
  }).join();
  CHECK(refused);
  CHECK_FALSE(owned);
  CHECK_FALSE(taken);
  CHECK(lock.owned());
  lock.release();
}

TEST_CASE("a fork child does not hold its parent's RLock") {
  mp::RLock lock;
  lock.acquire();
  lock.acquire();
  CHECK(test::in_child([&] {
          if (lock.owned()) return 1;
          if (lock.acquire(false)) return 2;
          try {
            lock.release();
            return 3;
          } catch (const mp::ValueError&) {}
          return lock.locked() ? 0 : 4;
        }) == 0);
  CHECK(lock.owned());
  lock.release();
  lock.release();
}

TEST_CASE("release_all gives up every level of an RLock and acquire_again takes them back") {
  mp::RLock lock;
  for (int i = 0; i < 3; ++i) lock.acquire();
  CHECK(lock.release_all() == 3);
  CHECK_FALSE(lock.locked());
  CHECK_THROWS_AS(lock.release_all(), mp::ValueError);
  lock.acquire_again(3);
  for (int i = 0; i < 3; ++i) lock.release();
  CHECK_FALSE(lock.locked());
}

TEST_CASE("copies of a lock are the same lock, other locks are others") {
  mp::Lock lock, other, copy = lock;
  copy.acquire();
  CHECK(lock.locked());
  CHECK_FALSE(other.locked());
  CHECK(copy == lock);
  CHECK(copy != other);
  lock.release();
}

TEST_CASE("what was written under a lock is seen under it in another process") {
  mp::Lock lock;
  struct Pair {
    long a = 0, b = 0;
  };
  test::Shared<Pair> pair;
  auto team = test::children(3, [&](int) {
    for (int i = 0; i < 10'000; ++i) {
      std::lock_guard guard(lock);
      if (pair->a != pair->b) return 1;
      ++pair->a;
      ++pair->b;
    }
    return 0;
  });
  CHECK(test::all_succeed(team));
  CHECK(pair->a == 30'000);
}
