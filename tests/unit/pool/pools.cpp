#include "mp/pool/pool.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <list>
#include <ranges>
#include <set>
#include <span>
#include <stdexcept>

#include "gate.hpp"
#include "mp/os/call.hpp"
#include "mp/os/clock.hpp"
#include "mp/pool/executor.hpp"

using namespace std::chrono_literals;

// The same bodies for both.
#define POOLS mp::Pool, mp::ThreadPool

namespace {

int square(int n) { return n * n; }
int no_three(int n) { return n == 3 ? throw std::out_of_range("three") : n; }

thread_local int sleeps = 0;
int count_sleeps(mp::os::Call call) noexcept {
  sleeps += call == mp::os::Call::futex;
  return 0;
}
// How often this thread sleeps in `wait()`.
template <class Wait>
int sleeps_in(Wait&& wait) {
  sleeps = 0;
  mp::os::fault_hook = count_sleeps;
  wait();
  mp::os::fault_hook = nullptr;
  return sleeps;
}

int slow_square(int n) {
  for (int i = 0; i < 1000; ++i) asm volatile("");
  return n * n;
}

}  // namespace

TEST_CASE_TEMPLATE("apply waits for one call's value or error", P, POOLS) {
  P pool(2);
  CHECK(pool.apply(square, 5) == 25);
  CHECK(pool.apply({.retries = 1}, square, 6) == 36);
  CHECK_THROWS_AS(pool.apply(no_three, 3), std::out_of_range);
  pool.apply([] {});
  CHECK(pool.processes() == 2);
}

TEST_CASE_TEMPLATE("map's results are a contiguous range and turn into containers", P, POOLS) {
  P pool(2);
  std::vector<int> in(1000);
  for (int i = 0; i < 1000; ++i) in[i] = i;
  auto squares = pool.map(square, in);
  static_assert(std::ranges::contiguous_range<decltype(squares)>);
  REQUIRE(squares.size() == 1000);
  CHECK(squares[30] == 900);
  CHECK(squares.back() == 999 * 999);
  CHECK(std::span<const int>(squares).size() == 1000);
  std::vector<int> copy = squares;
  CHECK(copy[999] == 999 * 999);

  std::vector<bool> odd = pool.map([](int n) { return n % 2 == 1; }, in, 7);
  CHECK(odd.size() == 1000);
  CHECK(odd[3]);
  odd = pool.map([](int) { return false; }, std::array{1, 2});
  CHECK(odd == std::vector<bool>{false, false});

  std::set<std::string> words = pool.map([](const std::string& s) { return s + s; }, std::list<std::string>{"a", "b"});
  CHECK(words == std::set<std::string>{"aa", "bb"});
  CHECK(pool.map([](int) {}, in).size() == 1000);
  CHECK(pool.map(square, std::vector<int>()).empty());
  CHECK(pool.map(square, std::views::iota(0, 3)) ==
        pool.starmap([](int a, int b) { return a * b; }, std::vector<std::pair<int, int>>{{0, 9}, {1, 1}, {2, 2}}));
}

TEST_CASE_TEMPLATE("map throws the first error, after all items are done", P, POOLS) {
  test::OwnGate ran;
  P pool(2);
  auto f = [r = ran.gate()](int n) {
    r.let(1);
    if (n % 3 == 2) throw std::runtime_error(std::to_string(n));
  };
  CHECK_THROWS_WITH_AS(pool.map(f, std::views::iota(0, 10), 5), "2", std::runtime_error);
  for (int i = 0; i < 10; ++i) ran.pass();
}

TEST_CASE_TEMPLATE("starmap spreads tuples, pairs and arrays over the arguments", P, POOLS) {
  P pool(2);
  std::vector<std::tuple<int, std::string, double>> rows{{1, "a", 0.5}, {2, "b", 0.25}};
  std::vector<std::string> got =
      pool.starmap([](int n, const std::string& s, double d) { return s + std::to_string(n + d); }, rows);
  CHECK(got == std::vector<std::string>{"a1.500000", "b2.250000"});
  CHECK(pool.starmap(std::plus<>{}, std::vector<std::array<int, 2>>{{1, 2}, {3, 4}})[1] == 7);
  CHECK(pool.starmap_async(std::plus<>{}, std::vector<std::pair<int, int>>{{1, 2}}, 3).get()[0] == 3);
}

TEST_CASE_TEMPLATE("an AsyncResult tells whether it is ready and successful", P, POOLS) {
  test::OwnGate gate;
  P pool(1);
  auto r = pool.apply_async([g = gate.gate()](int n) { return g.pass(), n; }, 8);
  CHECK(!r.ready());
  CHECK(!r.wait(1ms));
  CHECK_THROWS_AS(r.get(1ms), mp::TimeoutError);
  CHECK_THROWS_AS(r.successful(), mp::ValueError);
  gate.let(1);
  CHECK(r.get(1min) == 8);
  CHECK(r.successful());

  auto failed = pool.apply_async({.name = "three"}, no_three, 3);
  CHECK(failed.wait());
  CHECK(!failed.successful());
  CHECK_THROWS_AS(failed.get(), std::out_of_range);
  pool.apply_async([] {}).get();
}

TEST_CASE_TEMPLATE("map_async is ready when all items are done", P, POOLS) {
  test::OwnGate gate;
  P pool(2);
  auto r = pool.map_async([g = gate.gate()](int n) { return g.pass(), n; }, std::views::iota(0, 4), 1);
  gate.let(3);
  CHECK(!r.wait(10ms));
  CHECK_THROWS_AS(r.get(1ms), mp::TimeoutError);
  gate.let(1);
  std::vector<int> got = r.get(1min);
  CHECK(got == std::vector{0, 1, 2, 3});
  CHECK(r.get() == r.get());
  CHECK(pool.map_async(square, std::vector<int>(), 1).ready());
  auto failed = pool.map_async(no_three, std::vector{1, 3});
  CHECK_THROWS_AS(failed.get(), std::out_of_range);
  CHECK(!failed.successful());
}

TEST_CASE("who waits for a map_async of many items sleeps for its chunks, not for its items") {
  mp::Pool pool(2);
  const std::vector<int> all(50'000, 3);
  std::vector<long> slept;  // beyond the slices of a long wait
  for (int round = 0; round < 5; ++round) {
    auto r = pool.map_async(slow_square, all);
    const auto begin = mp::os::monotonic_now();
    slept.push_back(sleeps_in([&] { r.wait(); }));
    slept.back() -= (mp::os::monotonic_now() - begin) / mp::os::kSlice;
    CHECK(r.get().size() == all.size());
  }
  CHECK(*std::ranges::min_element(slept) < 20);  // some 100 chunks are done meanwhile
}

TEST_CASE("who takes the results of a map one after another sleeps ten times a millisecond at most") {
  mp::ProcessPoolExecutor pool(2);
  const std::vector<int> all(50'000, 3);
  const auto begin = mp::os::monotonic_now();
  std::size_t right = 0;
  const int slept = sleeps_in([&] {
    for (int y : pool.map(slow_square, all)) right += y == 9;
  });
  const auto took = mp::os::monotonic_now() - begin;
  CHECK(right == all.size());
  CHECK(slept <= took / 100us + 2);
}

TEST_CASE_TEMPLATE("callbacks have run when wait returns", P, POOLS) {
  P pool(2);
  int sum = 0, errors = 0;
  auto note = [&](std::exception_ptr e) { errors += e != nullptr; };
  auto one = pool.apply_async(square, 3).callback([&](int y) { sum += y; }).error_callback(note);
  one.wait();
  CHECK(sum == 9);
  auto all = pool.map_async(square, std::vector{1, 2, 3}).callback([&](const mp::Results<int>& ys) {
    for (int y : ys) sum += y;
  });
  all.wait();
  CHECK(sum == 23);
  auto failed = pool.map_async(no_three, std::vector{1, 3}).callback([&](auto&) { sum = 0; }).error_callback(note);
  failed.wait();
  CHECK(sum == 23);
  CHECK(errors == 1);
}

TEST_CASE_TEMPLATE("a map_async that nobody keeps still runs to its end", P, POOLS) {
  test::OwnGate ran;
  P pool(2);
  pool.map_async([r = ran.gate()](int) { r.let(1); }, std::views::iota(0, 50));
  pool.close();
  pool.join();
  for (int i = 0; i < 50; ++i) ran.pass();
}

TEST_CASE_TEMPLATE("imap works through an endless input", P, POOLS) {
  P pool(2);
  int n = 0;
  for (int y : pool.imap(square, std::views::iota(0))) {
    CHECK(y == n * n);
    if (++n == 100) break;
  }
  n = 0;
  for (int y : pool.imap(square, std::views::iota(0), 10)) {
    CHECK(y == n * n);
    if (++n == 100) break;
  }
}

TEST_CASE_TEMPLATE("imap_unordered gives what is done first", P, POOLS) {
  test::OwnGate gate;
  P pool(2);
  auto results =
      pool.imap_unordered([g = gate.gate()](int n) { return n == 0 ? (g.pass(), n) : n; }, std::views::iota(0, 6));
  std::vector<int> got;
  for (int i = 0; i < 5; ++i) got.push_back(*results.next(1min));
  CHECK_THROWS_AS(results.next(1ms), mp::TimeoutError);
  gate.let(1);
  CHECK(results.next() == 0);
  CHECK(!results.next());
  std::sort(got.begin(), got.end());
  CHECK(got == std::vector{1, 2, 3, 4, 5});

  int sum = 0;
  for (int y : pool.imap_unordered({.chunksize = 10, .buffersize = 100}, square, std::views::iota(0, 1000))) sum += y;
  CHECK(sum == 332833500);
}

TEST_CASE_TEMPLATE("imap goes on after an item's error", P, POOLS) {
  P pool(2);
  for (std::size_t chunksize : {1, 3}) {
    auto results = pool.imap(no_three, std::vector{1, 2, 3, 4, 5}, chunksize);
    CHECK(results.next() == 1);
    CHECK(results.next() == 2);
    CHECK_THROWS_AS(results.next(), std::out_of_range);
    CHECK(results.next() == 4);
    CHECK(results.next() == 5);
    CHECK(!results.next());
  }
}

TEST_CASE_TEMPLATE("a closed pool does what it has and refuses more", P, POOLS) {
  P pool(2);
  auto r = pool.map_async(square, std::views::iota(0, 100));
  CHECK_THROWS_AS(pool.join(), mp::ValueError);
  pool.close();
  CHECK_THROWS_WITH_AS(pool.apply(square, 1), "Pool not running", mp::ValueError);
  CHECK_THROWS_AS(pool.imap(square, std::vector{1}), mp::ValueError);
  pool.join();
  CHECK(r.get(0s).size() == 100);
}

TEST_CASE_TEMPLATE("terminate drops what has not begun, at once", P, POOLS) {
  test::OwnGate gate;
  P pool(2);
  auto r = pool.map_async([g = gate.gate()](int n) { return g.pass(), n; }, std::views::iota(0, 10'000), 1);
  auto last = pool.apply_async(square, 1);
  pool.terminate();
  gate.let(2);  // threads end their task; processes are ended in it
  pool.join();
  CHECK(last.ready());
  CHECK_THROWS_AS(last.get(), mp::CancelledError);
  CHECK_THROWS_AS(r.get(1min), mp::CancelledError);
}

TEST_CASE_TEMPLATE("more than 1024 workers are refused", P, POOLS) { CHECK_THROWS_AS(P(1025), mp::ValueError); }

TEST_CASE_TEMPLATE("a moved pool goes on", P, POOLS) {
  P first(1);
  P second(std::move(first));
  CHECK(second.apply(square, 3) == 9);
  CHECK_THROWS_AS(first.apply(square, 3), mp::ValueError);
}
