#include "mp/pool/executor.hpp"

#include <doctest/doctest.h>

#include <list>
#include <numeric>
#include <ranges>
#include <set>
#include <stdexcept>
#include <thread>

#include "gate.hpp"

using namespace std::chrono_literals;
using test::Gate;

// The same bodies for both.
#define EXECUTORS mp::ProcessPoolExecutor, mp::ThreadPoolExecutor

static_assert(mp::Executor<mp::ProcessPoolExecutor> && mp::Executor<mp::ThreadPoolExecutor>);

namespace {

int square(int n) { return n * n; }
int no_three(int n) { return n == 3 ? throw std::out_of_range("three") : n; }
void nothing(int) {}

// An endless input that counts what was taken from it.
struct Count {
  int* taken;
  struct iterator {
    using value_type = int;
    using difference_type = std::ptrdiff_t;
    int n;
    int* taken;
    int operator*() const { return *taken = n; }
    iterator& operator++() {
      ++n;
      return *this;
    }
    void operator++(int) { ++n; }
    friend bool operator==(const iterator&, std::default_sentinel_t) { return false; }
  };
  iterator begin() const { return {1, taken}; }
  std::default_sentinel_t end() const { return {}; }
};

}  // namespace

TEST_CASE_TEMPLATE("submit gives the value of the call", E, EXECUTORS) {
  E executor(2);
  CHECK(executor.submit(square, 7).result() == 49);
  CHECK(executor.submit([](const std::string& a, std::string b) { return a + b; }, "multi", std::string("processing"))
            .result() == "multiprocessing");
  executor.submit(nothing, 1).result();
  CHECK(executor.max_workers() == 2);
}

TEST_CASE_TEMPLATE("an exception comes back under its own type", E, EXECUTORS) {
  E executor(1);
  auto f = executor.submit(no_three, 3);
  CHECK_THROWS_AS(f.result(), std::out_of_range);
  CHECK(f.exception() != nullptr);
  CHECK(f.done());
}

TEST_CASE_TEMPLATE("a task with retries is called again after an exception", E, EXECUTORS) {
  test::OwnGate attempts;
  E executor(1);
  auto fail_twice = [gate = attempts.gate()](std::string text) {
    gate.let(1);
    return text.empty() ? throw std::runtime_error("the argument is gone") : throw std::out_of_range(text);
  };
  CHECK_THROWS_AS(executor.submit(mp::TaskOptions{.retries = 2}, fail_twice, std::string("x")).result(),
                  std::out_of_range);
  for (int i = 0; i < 3; ++i) attempts.pass();
  CHECK(executor.submit({.retries = 2, .name = "square"}, square, 3).result() == 9);
}

TEST_CASE_TEMPLATE("map gives results in input order", E, EXECUTORS) {
  E executor(3);
  std::vector<int> got;
  for (int n : executor.map(square, std::views::iota(0, 100))) got.push_back(n);
  REQUIRE(got.size() == 100);
  for (int i = 0; i < 100; ++i) CHECK(got[i] == i * i);

  std::vector<int> three = executor.map({.chunksize = 3}, square, std::list<int>{1, 2, 3, 4, 5, 6, 7});
  CHECK(three == std::vector{1, 4, 9, 16, 25, 36, 49});
  std::vector<bool> bits{true, false, true};
  CHECK(std::vector<bool>(executor.map([](bool b) { return !b; }, bits)) == std::vector<bool>{false, true, false});
  std::set<std::string> words =
      executor.map([](const std::string& s) { return s + "!"; }, std::vector<std::string>{"b", "a"});
  CHECK(words == std::set<std::string>{"a!", "b!"});
  CHECK(std::vector<int>(executor.map(square, std::vector<int>())).empty());
}

TEST_CASE_TEMPLATE("map of several ranges ends with the shortest", E, EXECUTORS) {
  E executor(2);
  std::vector<int> a{1, 2, 3, 4};
  std::vector<double> sum = executor.map([](int x, double y) { return x + y; }, a, std::vector{0.5, 0.25});
  CHECK(sum == std::vector{1.5, 2.25});
  std::vector<int> product =
      executor.map({.buffersize = 2}, [](int x, int y) { return x * y; }, a, std::views::iota(1));
  CHECK(product == std::vector{1, 4, 9, 16});
}

TEST_CASE_TEMPLATE("map throws an item's error in its place and goes on after it", E, EXECUTORS) {
  E executor(2);
  for (std::size_t buffersize : {0, 2}) {
    for (std::size_t chunksize : {1, 4}) {
      auto results =
          executor.map({.chunksize = chunksize, .buffersize = buffersize}, no_three, std::vector{1, 2, 3, 4, 5});
      std::vector<int> got;
      int errors = 0;
      for (auto it = results.begin(); it != results.end(); ++it) {
        try {
          got.push_back(*it);
          CHECK(*it == got.back());
        } catch (const std::out_of_range&) {
          ++errors;
          CHECK_THROWS_AS(*it, std::out_of_range);
        }
      }
      CHECK(got == std::vector{1, 2, 4, 5});
      CHECK(errors == 1);
      CHECK(!results.next());
    }
  }
  auto unseen = executor.map(no_three, std::vector{3, 4});
  auto it = unseen.begin();
  CHECK_THROWS_AS(++it, std::out_of_range);
  CHECK(*it == 4);
}

TEST_CASE_TEMPLATE("next gives nothing at the end, and may be asked again after its own timeout", E, EXECUTORS) {
  test::OwnGate gate;
  E executor(1);
  auto results = executor.map([g = gate.gate()](int n) { return g.pass(), n; }, std::vector{1, 2});
  CHECK_THROWS_AS(results.next(1ms), mp::TimeoutError);
  gate.let(2);
  CHECK(results.next(1min) == 1);
  CHECK(results.next() == 2);
  CHECK(results.next() == std::nullopt);
  CHECK(results.next(1ms) == std::nullopt);
}

TEST_CASE_TEMPLATE("when a map's deadline passes the iteration is over and the rest is cancelled", E, EXECUTORS) {
  test::OwnGate gate;
  E executor(1);
  auto results = executor.map(
      {.chunksize = 1, .deadline = 50ms}, [g = gate.gate()](int n) { return g.pass(), n; }, std::vector{1, 2, 3});
  auto it = results.begin();
  CHECK_THROWS_AS(*it, mp::TimeoutError);
  ++it;
  CHECK(it == results.end());
  gate.let(1);  // the one that runs
  CHECK(executor.submit(square, 2).result() == 4);
}

TEST_CASE_TEMPLATE("an item's own TimeoutError is not the map's", E, EXECUTORS) {
  E executor(1);
  auto results = executor.map([](int n) { return n == 1 ? throw mp::TimeoutError("mine") : n; }, std::vector{1, 2});
  CHECK_THROWS_WITH_AS(results.next(), doctest::Contains("mine"), mp::TimeoutError);
  CHECK(results.next() == 2);
}

TEST_CASE_TEMPLATE("leaving the iteration in the middle cancels what has not begun", E, EXECUTORS) {
  test::OwnGate gate, began;
  E executor(1);
  for (int n : executor.map(
           {.chunksize = 1}, [g = gate.gate(), b = began.gate()](int i) { return i ? (b.let(1), g.pass(), i) : i; },
           std::views::iota(0, 1000))) {
    CHECK(n == 0);
    began.pass();
    break;
  }
  gate.let(1);
  executor.shutdown();  // would wait for 998 passes otherwise
}

TEST_CASE_TEMPLATE("a map that nobody iterates over still runs to its end", E, EXECUTORS) {
  test::OwnGate ran;
  {
    E executor(2);
    executor.map([r = ran.gate()](int) { r.let(1); }, std::views::iota(0, 50));
  }
  for (int i = 0; i < 50; ++i) ran.pass();
}

TEST_CASE_TEMPLATE("buffersize bounds what is taken from the input", E, EXECUTORS) {
  E executor(2);
  int taken = 0;
  auto results = executor.map({.buffersize = 5}, square, Count{&taken});
  CHECK(taken == 5);
  CHECK(results.next() == 1);
  CHECK(results.next() == 4);
  CHECK(taken == 6);
}

TEST_CASE_TEMPLATE("an error of the input comes after the results before it", E, EXECUTORS) {
  E executor(2);
  auto bad =
      std::views::iota(0) | std::views::transform([](int n) { return n == 5 ? throw std::domain_error("input") : n; });
  CHECK_THROWS_AS(executor.map(square, bad), std::domain_error);
  for (std::size_t chunksize : {1, 3}) {
    auto results = executor.map({.chunksize = chunksize, .buffersize = 4}, square, bad);
    for (int i = 0; i < 5; ++i) CHECK(results.next() == i * i);
    CHECK_THROWS_AS(results.next(), std::domain_error);
    CHECK(!results.next());
  }
}

TEST_CASE_TEMPLATE("shutdown waits for what was submitted and refuses more", E, EXECUTORS) {
  E executor(2);
  std::vector<mp::Future<int>> futures;
  for (int i = 0; i < 50; ++i) futures.push_back(executor.submit(square, i));
  executor.shutdown();
  for (int i = 0; i < 50; ++i) CHECK(futures[i].result(0s) == i * i);
  CHECK_THROWS_WITH_AS(executor.submit(square, 1), doctest::Contains("after shutdown"), mp::Error);
  CHECK_THROWS_AS(executor.map(square, std::vector{1}), mp::Error);
  executor.shutdown();
}

TEST_CASE_TEMPLATE("shutdown with cancel_futures cancels what has not begun", E, EXECUTORS) {
  test::OwnGate gate, began;
  E executor(2);
  std::vector<mp::Future<int>> futures;
  auto wait = [g = gate.gate(), b = began.gate()](int i) { return b.let(1), g.pass(), i; };
  for (int i = 0; i < 50; ++i) futures.push_back(executor.submit(wait, i));
  began.pass();
  began.pass();
  executor.shutdown(false, true);
  gate.let(2);
  executor.shutdown();
  int cancelled = 0;
  for (auto& f : futures) {
    CHECK(f.done());
    if (f.cancelled()) ++cancelled;
    else CHECK(f.exception() == nullptr);
  }
  CHECK(cancelled == 48);
}

TEST_CASE_TEMPLATE("a pending future can be cancelled, a running one not", E, EXECUTORS) {
  test::OwnGate gate, began;
  E executor(1);
  auto running = executor.submit([g = gate.gate(), b = began.gate()] { b.let(1), g.pass(); });
  auto pending = executor.submit(square, 3);
  began.pass();
  CHECK(running.running());
  CHECK(!running.cancel());
  CHECK(pending.cancel());
  CHECK(pending.cancelled());
  CHECK_THROWS_AS(pending.result(), mp::CancelledError);
  gate.let(1);
  running.result();
}

TEST_CASE_TEMPLATE("done callbacks run once, and what they throw harms nobody", E, EXECUTORS) {
  std::atomic<int> called{0};
  {
    E executor(2);
    auto f = executor.submit(square, 3);
    f.add_done_callback([&](auto& done) {
      called += done.result();
      throw std::runtime_error("from a callback, on purpose");
    });
    f.result();
    f.add_done_callback([&](auto& done) { called += done.result(); });
  }
  CHECK(called == 18);
}

TEST_CASE_TEMPLATE("wait and as_completed work on an executor's futures", E, EXECUTORS) {
  test::OwnGate gate;
  E executor(2);
  std::vector<mp::Future<int>> futures{executor.submit([g = gate.gate()](int n) { return g.pass(), n; }, 1),
                                       executor.submit(square, 2)};
  auto [done, not_done] = mp::wait(futures, mp::FIRST_COMPLETED);
  CHECK(done.size() == 1);
  CHECK(done[0].result() == 4);
  CHECK(not_done.size() == 1);
  gate.let(1);
  int sum = 0;
  for (auto& f : mp::as_completed(futures, 1min)) sum += f.result();
  CHECK(sum == 5);
}

TEST_CASE_TEMPLATE("a moved executor goes on", E, EXECUTORS) {
  E first(1);
  auto f = first.submit(square, 2);
  E second(std::move(first));
  CHECK(second.submit(square, 3).result() == 9);
  CHECK(f.result() == 4);
  CHECK_THROWS_AS(first.submit(square, 2), mp::Error);
  first.shutdown();
}

TEST_CASE_TEMPLATE("more than 1024 workers are refused", E, EXECUTORS) {
  CHECK_THROWS_AS(E(1025), mp::ValueError);
  CHECK_THROWS_AS(E(static_cast<unsigned>(-1)), mp::ValueError);
}

TEST_CASE_TEMPLATE("each worker runs the initializer before its first task", E, EXECUTORS) {
  static thread_local int ready = 0;
  E executor({.max_workers = 2, .initializer = [] { ready = 42; }});
  for (int n : executor.map({.chunksize = 1}, [](int) { return ready; }, std::views::iota(0, 20))) CHECK(n == 42);
}

TEST_CASE_TEMPLATE("a failing initializer ends everything in BrokenExecutor", E, EXECUTORS) {
  E executor({.max_workers = 2, .initializer = [] { throw std::runtime_error("no model"); }});
  try {
    auto f = executor.submit(square, 2);
    CHECK_THROWS_AS(f.result(1min), mp::BrokenExecutor);
    CHECK_THROWS_WITH_AS(f.result(), doctest::Contains("no model"), mp::BrokenExecutor);
  } catch (const mp::BrokenExecutor&) {  // it was known before the submit
  }
  CHECK_THROWS_AS(executor.submit(square, 2), mp::BrokenExecutor);
}
