// Condition: waiting and notifying between threads and processes, time limits, death.
#include <mp/sync/condition.hpp>

#include <doctest/doctest.h>

#include <mutex>
#include <thread>
#include <vector>

#include <mp/errors.hpp>

#include "child.hpp"

using namespace std::chrono_literals;

namespace {

struct Report {
  std::atomic<int> entered{0}, woken{0}, timed_out{0};
};

// Children that take the lock, say so, and wait. Once `entered` counts them and the lock can be had, they all wait.
auto waiters(int n, mp::Condition& condition, test::Shared<Report>& report, mp::Timeout timeout = {}) {
  auto team = test::children(n, [&, timeout](int) {
    std::lock_guard guard(condition);
    report->entered++;
    if (condition.wait(timeout)) report->woken++;
    else report->timed_out++;
  });
  REQUIRE(test::eventually([&] { return report->entered == n; }));
  std::lock_guard all_wait(condition);
  return team;
}

// What `woken` has come to once it has stayed the same for three slices.
int settled(std::atomic<int>& counter) {
  for (int seen = counter;; seen = counter) {
    std::this_thread::sleep_for(60ms);  // time is the subject: nobody else wakes up
    if (counter == seen) return seen;
  }
}

}  // namespace

TEST_CASE("notify wakes one, notify(n) n, notify_all all") {
  mp::Condition condition;
  test::Shared<Report> report;
  auto team = waiters(6, condition, report);
  auto notify = [&](auto&&... n) {
    std::lock_guard guard(condition);
    condition.notify(n...);
  };
  CHECK(settled(report->woken) == 0);
  notify();
  CHECK(test::eventually([&] { return report->woken == 1; }));
  CHECK(settled(report->woken) == 1);
  notify(2u);
  CHECK(test::eventually([&] { return report->woken == 3; }));
  CHECK(settled(report->woken) == 3);
  {
    std::lock_guard guard(condition);
    condition.notify_all();
  }
  CHECK(test::all_succeed(team));
  CHECK(report->woken == 6);
}

TEST_CASE("a notification that nobody waits for is forgotten") {
  mp::Condition condition;
  std::lock_guard guard(condition);
  condition.notify(5);
  condition.notify_all();
  CHECK_FALSE(condition.wait(10ms));
}

TEST_CASE("a wait that is over by time says so and holds the lock again") {
  for (bool recursive : {false, true}) {
    mp::Condition condition = recursive ? mp::Condition(mp::RLock()) : mp::Condition(mp::Lock());
    std::lock_guard guard(condition);
    for (auto limit : {50ms, 0ms, -50ms}) {
      auto took = test::time_of([&] { CHECK_FALSE(condition.wait(limit)); });
      CHECK(took >= std::max(limit, 0ms));
      CHECK(took < 5s);
      CHECK_FALSE(test::in_child([&] { return condition.acquire(false) ? 1 : 0; }));
    }
  }
}

TEST_CASE("wait gives the lock up, all levels of it, and takes it back") {
  mp::RLock lock;
  mp::Condition condition(lock);
  lock.acquire();
  lock.acquire();
  test::Shared<std::atomic<bool>> came_in(false);
  test::Child child([&] {
    std::lock_guard guard(condition);
    *came_in = true;
    condition.notify();
  });
  CHECK(condition.wait(10s));
  CHECK(*came_in);
  CHECK(lock.owned());
  lock.release();
  CHECK(lock.owned());
  lock.release();
  CHECK_FALSE(lock.locked());
  CHECK(child.wait() == 0);
}

TEST_CASE_TEMPLATE("waiting and notifying without the lock are errors", L, mp::Lock, mp::RLock) {
  L lock;
  mp::Condition condition(lock);
  CHECK_THROWS_AS(condition.wait(0ms), mp::ValueError);
  CHECK_THROWS_AS(condition.notify(), mp::ValueError);
  CHECK_THROWS_AS(condition.notify_all(), mp::ValueError);
  test::Shared<std::atomic<int>> stage(0);
  test::Child holder([&] {
    lock.acquire();
    *stage = 1;
    while (*stage != 2) std::this_thread::sleep_for(1ms);
    lock.release();
  });
  REQUIRE(test::eventually([&] { return *stage == 1; }));
  CHECK_THROWS_AS(condition.notify(), mp::ValueError);
  *stage = 2;
  CHECK(holder.wait() == 0);
}

TEST_CASE("wait_for waits until the predicate holds") {
  mp::Condition condition;
  test::Shared<std::atomic<int>> state(0);
  test::Child child([&] {
    for (int i = 0; i < 4; ++i) {
      std::lock_guard guard(condition);
      ++*state;
      condition.notify_all();
    }
  });
  {
    std::lock_guard guard(condition);
    CHECK(condition.wait_for([&] { return *state == 4; }));
    CHECK(condition.wait_for([&] { return *state == 4; }, -1s));
    int asked = 0;
    auto took = test::time_of([&] { CHECK_FALSE(condition.wait_for([&] { return ++asked, *state == 5; }, 60ms)); });
    CHECK(took >= 60ms);
    CHECK(took < 5s);
    CHECK(asked >= 2);
  }
  CHECK(child.wait() == 0);
}

TEST_CASE("notify does not wait for the woken") {
  mp::Condition condition;
  test::Shared<Report> report;
  auto team = waiters(3, condition, report);
  for (auto& c : team) c.signal(SIGSTOP);
  auto took = test::time_of([&] {
    std::lock_guard guard(condition);
    condition.notify_all();
  });
  CHECK(took < 1s);
  for (auto& c : team) c.signal(SIGCONT);
  CHECK(test::all_succeed(team));
  CHECK(report->woken == 3);
}

TEST_CASE("killed waiters do not hang notify, and take no wake-up from the living") {
  mp::Condition condition;
  test::Shared<Report> report;
  auto team = waiters(5, condition, report);
  for (int i = 0; i < 3; ++i) team[static_cast<std::size_t>(i)].kill();
  auto took = test::time_of([&] {
    std::lock_guard guard(condition);
    condition.notify(2);
  });
  CHECK(took < 1s);
  CHECK(test::eventually([&] { return report->woken == 2; }, 5s));
  team.clear();
}

TEST_CASE("a wake-up given to one who is then killed goes to another") {
  mp::Condition condition;
  test::Shared<Report> report;
  // The first stops, so that it is chosen, being the oldest, and dies before it can do anything.
  auto first = waiters(1, condition, report);
  first[0].signal(SIGSTOP);
  report->entered = 0;
  auto second = waiters(1, condition, report);
  {
    std::lock_guard guard(condition);
    condition.notify();
  }
  CHECK(settled(report->woken) == 0);
  first[0].kill();
  auto took = test::time_of([&] { CHECK(second[0].wait() == 0); });
  CHECK(report->woken == 1);
  CHECK(took < 1s);
}

TEST_CASE("a wake-up given to one who is killed while it waits for the lock goes to another") {
  mp::Condition condition;
  test::Shared<Report> report;
  auto first = waiters(1, condition, report);
  report->entered = 0;
  auto second = waiters(1, condition, report);
  condition.acquire();
  condition.notify();
  std::this_thread::sleep_for(30ms);  // the first is awake by now and wants the lock
  first[0].kill();
  condition.release();
  CHECK(second[0].ends_within(5s));
  CHECK(report->woken == 1);
}

TEST_CASE_TEMPLATE("whoever waits is told when the lock's holder is killed, and may then let go of the lock", L,
                   mp::Lock, mp::RLock) {
  L lock;
  mp::Condition condition(lock);
  test::Shared<std::atomic<int>> told(0), entered(0);
  auto team = test::children(3, [&](int) {
    try {
      std::lock_guard guard(condition);
      ++*entered;
      condition.wait();
      return 1;
    } catch (const mp::OwnerDied&) {
      ++*told;
      return 0;
    }
  });
  REQUIRE(test::eventually([&] { return *entered == 3; }));
  CHECK(test::in_child([&] {
          condition.acquire();
          condition.notify_all();
          ::raise(SIGKILL);
        }) == -SIGKILL);
  CHECK(test::all_succeed(team));
  CHECK(*told == 3);
  CHECK(lock.locked());
  CHECK_THROWS_AS(condition.acquire(), mp::OwnerDied);  // and so is everybody else, until
  CHECK(condition.recover());
  CHECK_FALSE(lock.locked());
}

TEST_CASE_TEMPLATE("who is told out of wait holds the lock, and may recover it there and then", L, mp::Lock,
                   mp::RLock) {
  L lock;
  mp::Condition condition(lock);
  test::Shared<std::atomic<int>> entered(0);
  test::Child waiter([&] {
    std::unique_lock guard(lock);
    ++*entered;
    try {
      condition.wait();
      return 1;
    } catch (const mp::OwnerDied&) {
      if (!lock.owned()) return 2;
      bool ran = false;
      if (!lock.recover([&] { ran = lock.owned(); }) || !ran) return 3;
      if (!lock.owned()) return 4;
      if (lock.recover()) return 5;
      condition.notify_all();
      return 0;
    }
  });
  REQUIRE(test::eventually([&] { return *entered == 1; }));
  CHECK(test::in_child([&] {
          condition.acquire();
          condition.notify_all();
          ::raise(SIGKILL);
        }) == -SIGKILL);
  CHECK(waiter.wait() == 0);
  CHECK(lock.acquire(true, 0ms));
  lock.release();
}

TEST_CASE("many waiters, more than the condition has places for at first, are all woken, in any process or thread") {
  mp::Condition condition;
  test::Shared<Report> report;
  std::vector<std::thread> threads;
  for (int i = 0; i < 40; ++i)
    threads.emplace_back([&] {
      std::lock_guard guard(condition);
      report->entered++;
      condition.wait();
      report->woken++;
    });
  REQUIRE(test::eventually([&] { return report->entered == 40; }));
  report->entered = 0;
  auto team = waiters(10, condition, report);
  {
    std::lock_guard guard(condition);
    condition.notify_all();
  }
  for (auto& t : threads) t.join();
  CHECK(test::all_succeed(team));
  CHECK(report->woken == 50);
}

TEST_CASE("two processes hand a ball to and fro, and no wake-up is lost") {
  mp::Condition condition;
  test::Shared<int> turn(0);
  constexpr int kRounds = 2000;
  auto play = [&](int me) {
    for (int i = 0; i < kRounds; ++i) {
      std::lock_guard guard(condition);
      if (!condition.wait_for([&] { return *turn % 2 == me; }, 20s)) return 1;
      ++*turn;
      condition.notify();
    }
    return 0;
  };
  auto team = test::children(2, play);
  CHECK(test::all_succeed(team));
  CHECK(*turn == 2 * kRounds);
}
