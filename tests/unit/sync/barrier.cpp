// Barrier: meeting again and again, time limits, breaking, actions, death.
#include <mp/sync/barrier.hpp>

#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include <mp/errors.hpp>
#include <mp/memory/arena.hpp>
#include <mp/sync/value.hpp>

#include "child.hpp"

using namespace std::chrono_literals;

namespace {

constexpr int kWell = 0, kBroken = 7;

// wait() as an exit code.
template <class... Limit>
int meet(mp::Barrier& barrier, Limit... limit) {
  try {
    barrier.wait(limit...);
    return kWell;
  } catch (const mp::BrokenBarrierError&) {
    return kBroken;
  }
}

bool all_waiting(const mp::Barrier& barrier, unsigned n) {
  return test::eventually([&] { return barrier.n_waiting() == n; });
}

int all_return(std::vector<test::Child>& team) {
  int all = team.front().wait();
  for (auto& c : team)
    if (c.wait() != all) all = -1;
  return all;
}

}  // namespace

TEST_CASE("everybody waits until all have come, and each gets a number of its own") {
  mp::Barrier barrier(5);
  CHECK(barrier.parties() == 5);
  CHECK(barrier.n_waiting() == 0);
  test::Shared<std::atomic<int>> came(0), numbers(0), early(0);
  auto party = [&](int) {
    ++*came;
    *numbers |= 1 << barrier.wait();
    if (*came != 5) ++*early;
  };
  auto team = test::children(4, party);
  CHECK(all_waiting(barrier, 4));
  party(0);
  CHECK(test::all_succeed(team));
  CHECK(*numbers == 0b11111);
  CHECK(*early == 0);
  CHECK(barrier.n_waiting() == 0);
  CHECK_FALSE(barrier.broken());
}

TEST_CASE("five processes pass a hundred rounds together") {
  mp::Barrier barrier(5);
  struct Report {
    std::atomic<int> come[100]{}, numbers[100]{}, wrong{0};
  };
  test::Shared<Report> report;
  auto team = test::children(5, [&](int) {
    for (int round = 0; round < 100; ++round) {
      ++report->come[round];
      report->numbers[round] |= 1 << barrier.wait(20s);
      if (report->come[round] != 5) ++report->wrong;
      if (round + 2 < 100 && report->come[round + 2] != 0) ++report->wrong;
    }
  });
  CHECK(test::all_succeed(team));
  CHECK(report->wrong == 0);
  for (auto& numbers : report->numbers) CHECK(numbers == 0b11111);
}

TEST_CASE("threads and processes meet at one barrier") {
  mp::Barrier barrier(4);
  auto team = test::children(2, [&](int) {
    for (int i = 0; i < 50; ++i) barrier.wait(20s);
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) barrier.wait(20s);
    });
  for (auto& t : threads) t.join();
  CHECK(test::all_succeed(team));
}

TEST_CASE("a barrier for one is no obstacle, for none an error") {
  mp::Barrier alone(1);
  for (int i = 0; i < 3; ++i) CHECK(alone.wait() == 0);
  CHECK_THROWS_AS(mp::Barrier(0), mp::ValueError);
  CHECK_THROWS_AS(mp::Barrier(100'000), mp::ValueError);
}

TEST_CASE("when one party's time is over, the barrier breaks for all") {
  mp::Barrier barrier(3);
  test::Child patient([&] { return meet(barrier); });
  CHECK(all_waiting(barrier, 1));
  auto took = test::time_of([&] { CHECK_THROWS_AS(barrier.wait(50ms), mp::BrokenBarrierError); });
  CHECK(took >= 50ms);
  CHECK(took < 5s);
  CHECK(patient.wait() == kBroken);
  CHECK(barrier.broken());
  CHECK_THROWS_AS(barrier.wait(), mp::BrokenBarrierError);
  barrier.reset();
  CHECK_FALSE(barrier.broken());
  auto team = test::children(2, [&](int) { return meet(barrier); });
  CHECK(barrier.wait() <= 2);
  CHECK(all_return(team) == kWell);
}

TEST_CASE("the barrier's own time limit holds where wait names none") {
  mp::Barrier barrier(2, 30ms);
  auto took = test::time_of([&] { CHECK_THROWS_AS(barrier.wait(), mp::BrokenBarrierError); });
  CHECK(took >= 30ms);
  CHECK(took < 5s);
}

TEST_CASE("no time to wait breaks the barrier, unless the caller is the last to come") {
  mp::Barrier barrier(2);
  CHECK_THROWS_AS(barrier.wait(0ms), mp::BrokenBarrierError);
  barrier.reset();
  test::Child first([&] { return meet(barrier); });
  CHECK(all_waiting(barrier, 1));
  CHECK(barrier.wait(-1s) == 1);
  CHECK(first.wait() == kWell);
}

TEST_CASE("reset breaks it for those who wait, and for nobody after") {
  mp::Barrier barrier(3);
  auto team = test::children(2, [&](int) { return meet(barrier); });
  CHECK(all_waiting(barrier, 2));
  barrier.reset();
  CHECK(all_return(team) == kBroken);
  CHECK_FALSE(barrier.broken());
  CHECK(barrier.n_waiting() == 0);
  auto next = test::children(2, [&](int) { return meet(barrier); });
  CHECK(meet(barrier) == kWell);
  CHECK(all_return(next) == kWell);
}

TEST_CASE("abort breaks it for all until reset") {
  mp::Barrier barrier(3);
  auto team = test::children(2, [&](int) { return meet(barrier); });
  CHECK(all_waiting(barrier, 2));
  barrier.abort();
  CHECK(all_return(team) == kBroken);
  CHECK(barrier.broken());
  CHECK(test::in_child([&] { return meet(barrier); }) == kBroken);
  barrier.abort();
  barrier.reset();
  CHECK_FALSE(barrier.broken());
}

TEST_CASE("the action runs once a round, in the last to come, before anybody goes on") {
  mp::Value<int> ran(0);
  test::Shared<std::atomic<int>> wrong(0);
  mp::Barrier barrier(3, [ran]() mutable { ran += 1; });
  auto team = test::children(3, [&](int) {
    for (int round = 1; round <= 50; ++round) {
      barrier.wait(20s);
      int now = ran.get();
      // The next round's action can have run only once we have come again.
      if (now != round) ++*wrong;
    }
  });
  CHECK(test::all_succeed(team));
  CHECK(*wrong == 0);
  CHECK(ran.get() == 50);
}

TEST_CASE("an action that throws breaks the barrier and is thrown where it ran") {
  mp::Barrier barrier(2, [] { throw std::out_of_range("from the action"); });
  test::Child first([&] { return meet(barrier); });
  CHECK(all_waiting(barrier, 1));
  CHECK_THROWS_WITH_AS(barrier.wait(), "from the action", std::out_of_range);
  CHECK(first.wait() == kBroken);
  CHECK(barrier.broken());
}

TEST_CASE("what the action holds lives as long as the barrier") {
  std::size_t before = mp::memory::bytes_in_use();
  {
    std::optional<mp::Value<int>> value(std::in_place, 5);
    mp::Barrier barrier(1, [v = *value]() mutable { v += 1; });
    value.reset();
    barrier.wait();
    barrier.wait();
  }
  CHECK(mp::memory::bytes_in_use() == before);
}

TEST_CASE("a party that is killed while it waits breaks the barrier within 50 ms") {
  mp::Barrier barrier(3);
  auto team = test::children(2, [&](int) { return meet(barrier); });
  CHECK(all_waiting(barrier, 2));
  team[0].kill();
  CHECK(test::time_of([&] { CHECK(team[1].wait() == kBroken); }) < 1s);
  CHECK(barrier.broken());
  barrier.reset();
  auto next = test::children(2, [&](int) { return meet(barrier); });
  CHECK(meet(barrier) == kWell);
  CHECK(all_return(next) == kWell);
}

TEST_CASE("a party that is killed in the action breaks the barrier, and harms no newcomer") {
  test::Shared<std::atomic<int>> stage(0);
  mp::Barrier barrier(2, [] { ::raise(SIGKILL); });
  test::Child first([&] { return meet(barrier); });
  CHECK(all_waiting(barrier, 1));
  test::Child last([&] { return meet(barrier); });
  CHECK(last.wait() == -SIGKILL);
  CHECK(test::time_of([&] { CHECK(meet(barrier, mp::Timeout(10s)) == kBroken); }) < 2s);
  CHECK(first.wait() == kBroken);
  CHECK(barrier.broken());
}

TEST_CASE("parties that ended after a round do not break the next") {
  mp::Barrier barrier(2);
  for (int i = 0; i < 20; ++i) {
    test::Child child([&] { return meet(barrier); });
    CHECK(meet(barrier, mp::Timeout(20s)) == kWell);
    CHECK(child.wait() == kWell);
  }
}
