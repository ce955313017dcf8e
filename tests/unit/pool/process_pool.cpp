#include <mp/pool/executor.hpp>

#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <mp/memory/family.hpp>
#include <mp/os/clock.hpp>
#include <mp/sync/barrier.hpp>
#include <mp/sync/event.hpp>
#include <mp/sync/value.hpp>

#include "child.hpp"
#include "heir.hpp"

using namespace std::chrono_literals;

namespace {

int square(int x) { return x * x; }
pid_t who() { return ::getpid(); }
std::string twice(std::string s) { return s + s; }
int fail_on_three(int x) {
  if (x == 3) throw std::out_of_range("three");
  return x;
}
int crash_on(int x, int victim) {
  if (x == victim) ::raise(SIGKILL);
  return x;
}
void sleep_for_ever() {
  for (;;) ::pause();
}
struct Point {
  double x, y;
  std::string name;
};
Point mirror(Point p) { return {p.y, p.x, p.name + "'"}; }

// One of them does not survive being read, another refuses to be before it has been read at all.
struct Bomb {
  static constexpr int kDeadly = 13, kUnreadable = 16;
  int number = 0;
  void mp_pickle(mp::pickle::Writer& w) const { mp::pickle::dump(w, number); }
  static Bomb mp_unpickle(mp::pickle::Reader& r) {
    // Half of it, first.
    const auto low = mp::pickle::load<std::uint16_t>(r);
    if (low == kUnreadable) throw std::domain_error("sixteen");
    if (low == kDeadly) ::raise(SIGKILL);
    const Bomb bomb{low + mp::pickle::load<std::uint16_t>(r)};
    return bomb;
  }
};

}  // namespace

TEST_CASE("a task runs in a process of its own and its value comes back") {
  mp::ProcessPoolExecutor pool(2);
  CHECK(pool.submit(square, 7).result() == 49);
  CHECK(pool.submit(who).result() != ::getpid());
  CHECK(pool.submit(twice, std::string(10'000, 'x')).result() == std::string(20'000, 'x'));
  Point p = pool.submit(mirror, Point{1, 2, "p"}).result();
  CHECK(p.x == 2);
  CHECK(p.name == "p'");
  pool.submit([] {}).result();
}

TEST_CASE("large values go to a worker and back, alone, nested and beside handles, and leave no memory behind") {
  mp::ProcessPoolExecutor pool(1);
  test::await_heir(pool);
  const std::size_t before = mp::memory::bytes_in_use();
  for (std::size_t size : {8'191, 8'192, 8'193, 100'000, 5'000'000}) {
    std::vector<double> numbers(size);
    std::iota(numbers.begin(), numbers.end(), 0.5);
    CHECK(pool.submit([](std::vector<double> v) { return v; }, numbers).result() == numbers);
    std::vector<std::string> nested{"small", std::string(size, 'x'), std::string(size * 3, 'y'), "end"};
    CHECK(pool.submit([](std::vector<std::string> v) { return v; }, nested).result() == nested);
    auto [back, count] = pool.submit(
                                 [](std::vector<double> v, mp::Value<int> n) {
                                   ++n;
                                   return std::pair(v, n);
                                 },
                                 numbers, mp::Value<int>(6))
                             .result();
    CHECK(back == numbers);
    CHECK(count.value() == 7);
  }
  CHECK(mp::memory::bytes_in_use() <= before + 4096);
}

TEST_CASE("a hundred thousand tasks come back, each with its own value") {
  mp::ProcessPoolExecutor pool(2);
  std::vector<mp::Future<int>> futures;
  for (int i = 0; i < 100'000; ++i) futures.push_back(pool.submit(square, i % 1000));
  int wrong = 0;
  for (int i = 0; i < 100'000; ++i)
    wrong += std::move(futures[static_cast<std::size_t>(i)]).result() != (i % 1000) * (i % 1000);
  CHECK(wrong == 0);
}

TEST_CASE("a lambda travels with what it captured by value, and is refused with what it captured by reference") {
  mp::ProcessPoolExecutor pool(1);
  int k = 7;
  CHECK(pool.submit([k](int x) { return x * k; }, 6).result() == 42);
  CHECK_THROWS_AS(pool.submit([&k](int x) { return x * k; }, 6), mp::PicklingError);
  CHECK(pool.submit(square, 3).result() == 9);
}

TEST_CASE("an exception comes back as its own type and the worker goes on") {
  mp::ProcessPoolExecutor pool(1);
  pid_t before = pool.submit(who).result();
  auto f = pool.submit(fail_on_three, 3);
  CHECK_THROWS_AS(f.result(), std::out_of_range);
  CHECK_THROWS_WITH(f.result(), "three");
  CHECK(f.exception() != nullptr);
  CHECK(pool.submit(who).result() == before);
}

TEST_CASE("a killed worker costs only the task it ran, and is replaced") {
  mp::ProcessPoolExecutor pool(2);
  std::vector<mp::Future<int>> futures;
  for (int i = 0; i < 200; ++i) futures.push_back(pool.submit(crash_on, i, 57));
  int crashed = 0, right = 0;
  for (int i = 0; i < 200; ++i) {
    try {
      right += futures[static_cast<std::size_t>(i)].result() == i;
    } catch (const mp::WorkerCrashed& e) {
      CHECK(i == 57);
      CHECK(std::string(e.what()).find("SIGKILL") != std::string::npos);
      ++crashed;
    }
  }
  CHECK(crashed == 1);
  CHECK(right == 199);
  CHECK(pool.submit(square, 4).result() == 16);
}

TEST_CASE("workers killed at random lose nothing but what they ran") {
  mp::ProcessPoolExecutor pool(2);
  std::vector<mp::Future<int>> futures;
  std::jthread killer([&](std::stop_token stop) {
    for (int i = 0; i < 40 && !stop.stop_requested(); ++i) {
      std::this_thread::sleep_for(3ms);
      for (pid_t pid : pool.worker_pids()) {
        ::kill(pid, SIGKILL);
        break;
      }
    }
  });
  constexpr int kTasks = 20'000;
  for (int i = 0; i < kTasks; ++i) futures.push_back(pool.submit(square, i % 100));
  int values = 0, crashes = 0;
  for (int i = 0; i < kTasks; ++i) {
    try {
      if (futures[static_cast<std::size_t>(i)].result(30s) == (i % 100) * (i % 100)) ++values;
    } catch (const mp::WorkerCrashed&) {
      ++crashes;
    }
  }
  killer.request_stop();
  killer.join();
  CHECK(values + crashes == kTasks);
  CHECK(crashes <= 40);
  CHECK(pool.submit(square, 4).result(30s) == 16);
}

TEST_CASE("callbacks run once each, whichever workers are killed, idle or busy") {
  constexpr int kTasks = 5'000;
  std::vector<std::atomic<int>> called(kTasks);
  {
    mp::ProcessPoolExecutor pool(2);
    std::jthread killer([&](std::stop_token stop) {
      for (int i = 0; i < 40 && !stop.stop_requested(); ++i) {
        std::this_thread::sleep_for(2ms);
        auto pids = pool.worker_pids();
        if (!pids.empty()) ::kill(pids[static_cast<std::size_t>(i) % pids.size()], SIGKILL);
      }
    });
    for (int i = 0; i < kTasks; ++i) {
      pool.submit(square, i).add_done_callback([&called, i](auto&) { ++called[static_cast<std::size_t>(i)]; });
      if (i % 100 == 0) std::this_thread::sleep_for(1ms);  // so that workers are idle at times
    }
  }
  CHECK(std::all_of(called.begin(), called.end(), [](const auto& n) { return n == 1; }));
}

TEST_CASE("futures outlive their pool, with their values, and give its memory back in the end") {
  { mp::ProcessPoolExecutor(1).submit(square, 1).result(); }
  std::size_t before = mp::memory::bytes_in_use();
  std::vector<mp::Future<std::string>> futures;
  std::optional<mp::Future<int>> failed;
  {
    mp::ProcessPoolExecutor pool(2);
    for (int i = 0; i < 100; ++i)
      futures.push_back(pool.submit(twice, std::string(static_cast<std::size_t>(i * 10), 'x')));
    failed = pool.submit(fail_on_three, 3);
  }
  for (int i = 0; i < 100; ++i) {
    auto& f = futures[static_cast<std::size_t>(i)];
    CHECK(f.result() == std::string(static_cast<std::size_t>(i * 20), 'x'));
    CHECK(f.result().size() == static_cast<std::size_t>(i * 20));  // as often as one likes
    CHECK_FALSE(f.kill());
  }
  CHECK_THROWS_WITH_AS(failed->result(), "three", std::out_of_range);
  CHECK(mp::memory::bytes_in_use() > before);
  futures.clear();
  failed.reset();
  CHECK(mp::memory::bytes_in_use() <= before + 4096);
}

TEST_CASE("workers killed while they start are replaced until one gets through") {
  mp::Value<int> starts(0);
  mp::ProcessPoolExecutor pool({.max_workers = 1, .initializer = [starts]() mutable {
                                  if (++starts <= 10) ::raise(SIGKILL);
                                }});
  CHECK(pool.submit(square, 6).result(30s) == 36);
  CHECK(starts.value() == 11);
}

TEST_CASE("workers that crash by themselves as they start end the pool, which says how they died") {
  mp::ProcessPoolExecutor pool({.max_workers = 1, .initializer = [] { std::abort(); }});
  auto f = pool.submit(square, 6);
  CHECK_THROWS_WITH_AS(f.result(30s), doctest::Contains("SIGABRT"), mp::BrokenProcessPool);
}

TEST_CASE("a task beyond its time limit ends in TimeoutError, alone") {
  mp::ProcessPoolExecutor pool(1);
  auto slow = pool.submit(mp::TaskOptions{.timeout = 50ms, .name = "slow"}, sleep_for_ever);
  auto next = pool.submit(square, 5);
  CHECK_THROWS_AS(slow.result(10s), mp::TimeoutError);
  CHECK(slow.done());
  CHECK(next.result(10s) == 25);
}

TEST_CASE("a task that crashes is tried again as often as it may") {
  mp::ProcessPoolExecutor pool(1);
  mp::Value<int> attempts(0);
  auto f = pool.submit(mp::TaskOptions{.retries = 2}, [attempts]() mutable {
    if (++attempts < 3) ::raise(SIGKILL);
    return 5;
  });
  CHECK(f.result(20s) == 5);
  CHECK(attempts.value() == 3);
}

TEST_CASE("a waiting task can be cancelled, a running one killed") {
  mp::ProcessPoolExecutor pool(1);
  auto running = pool.submit(sleep_for_ever);
  auto waiting = pool.submit(square, 2);
  while (!running.running()) std::this_thread::yield();
  CHECK(waiting.cancel());
  CHECK(waiting.cancelled());
  CHECK_THROWS_AS(waiting.result(), mp::CancelledError);
  CHECK_FALSE(running.cancel());
  CHECK(running.kill());
  CHECK_THROWS_AS(running.result(10s), mp::CancelledError);
  CHECK(pool.submit(square, 3).result(10s) == 9);
}

TEST_CASE("a map gives every result in order") {
  mp::ProcessPoolExecutor pool(2);
  std::vector<int> numbers(10'000);
  std::iota(numbers.begin(), numbers.end(), 0);
  int i = 0, wrong = 0;
  for (int y : pool.map(square, numbers)) {
    wrong += y != i * i;
    ++i;
  }
  CHECK(i == 10'000);
  CHECK(wrong == 0);
  std::vector<std::string> words{"a", "bc", std::string(100, 'd')}, doubled;
  for (std::string s : pool.map(twice, words)) doubled.push_back(s);
  CHECK(doubled == std::vector<std::string>{"aa", "bcbc", std::string(200, 'd')});
}

TEST_CASE("in a chunk, a crash and an exception cost their own items only") {
  mp::ProcessPoolExecutor pool(2);
  std::vector<int> numbers(1000);
  std::iota(numbers.begin(), numbers.end(), 0);
  auto source = pool.map(
      mp::MapOptions{.chunksize = 100},
      [](int x) {
        if (x == 321) ::raise(SIGKILL);
        if (x == 333) throw std::domain_error("no");
        return x;
      },
      numbers);
  int values = 0, crashes = 0, errors = 0, at = 0;
  for (auto it = source.begin(); it != source.end();) {
    try {
      values += *it == at;
    } catch (const mp::WorkerCrashed&) {
      CHECK(at == 321);
      ++crashes;
    } catch (const std::domain_error&) {
      CHECK(at == 333);
      ++errors;
    }
    ++at;
    ++it;
  }
  CHECK(values == 998);
  CHECK(crashes == 1);
  CHECK(errors == 1);
}

TEST_CASE("an item that cannot be unpickled, even if that kills its worker, costs itself only") {
  mp::ProcessPoolExecutor pool(2);
  std::vector<Bomb> bombs(20);
  for (int i = 0; i < 20; ++i) bombs[static_cast<std::size_t>(i)].number = i;
  auto source = pool.map(mp::MapOptions{.chunksize = 10}, [](const Bomb& b) { return b.number; }, bombs);
  int at = 0, values = 0;
  std::vector<int> lost, refused;
  for (auto it = source.begin(); it != source.end(); ++it, ++at) {
    try {
      values += *it == at;
    } catch (const mp::WorkerCrashed&) {
      lost.push_back(at);
    } catch (const std::domain_error&) {
      refused.push_back(at);
    }
  }
  CHECK(values == 18);
  CHECK(lost == std::vector{Bomb::kDeadly});
  CHECK(refused == std::vector{Bomb::kUnreadable});
}

TEST_CASE("workers killed at random in a map of many items cost only the items they ran") {
  mp::ProcessPoolExecutor pool(2);
  std::vector<int> numbers(40'000);
  std::iota(numbers.begin(), numbers.end(), 0);
  constexpr int kKills = 20;
  std::jthread killer([&](std::stop_token stop) {
    for (int i = 0; i < kKills && !stop.stop_requested(); ++i) {
      std::this_thread::sleep_for(2ms);
      auto pids = pool.worker_pids();
      if (!pids.empty()) ::kill(pids[static_cast<std::size_t>(i) % pids.size()], SIGKILL);
    }
  });
  int crashes = 0;
  for (int round = 0; round < 5; ++round) {
    int values = 0, wrong = 0, lost = 0;
    auto results = pool.map(square, numbers);
    for (auto it = results.begin(); it != results.end(); ++it) {
      const int at = values + lost;
      try {
        wrong += *it != at * at;
        ++values;
      } catch (const mp::WorkerCrashed&) {
        ++lost;
      }
    }
    CHECK(wrong == 0);
    CHECK(values + lost == 40'000);
    crashes += lost;
  }
  CHECK(crashes <= kKills);
}

TEST_CASE("a failing initializer ends in one clear BrokenProcessPool") {
  mp::ProcessPoolExecutor pool({.max_workers = 2, .initializer = [] { throw std::runtime_error("no model"); }});
  try {
    auto f = pool.submit(square, 1);
    f.result(20s);
    FAIL("a value came back");
  } catch (const mp::BrokenProcessPool& e) {
    CHECK(std::string(e.what()).find("no model") != std::string::npos);
  }
  CHECK_THROWS_AS(pool.submit(square, 1), mp::BrokenProcessPool);
}

TEST_CASE("a worker leaves after its share and another takes its place") {
  mp::ProcessPoolExecutor pool({.max_workers = 1, .max_tasks_per_child = 3});
  std::set<pid_t> pids;
  for (int i = 0; i < 9; ++i) pids.insert(pool.submit(who).result(20s));
  CHECK(pids.size() == 3);
}

TEST_CASE("a task may use a pool of its own") {
  mp::ProcessPoolExecutor pool(2);
  auto f = pool.submit(
      [](int n) {
        mp::ProcessPoolExecutor inner(2);
        int sum = 0;
        for (int i = 0; i < n; ++i) sum += inner.submit(square, i).result();
        return sum;
      },
      10);
  CHECK(f.result(30s) == 285);
}

TEST_CASE("callbacks run once for every task, and what they throw harms nobody") {
  std::atomic<int> called{0};
  {
    mp::ProcessPoolExecutor pool(2);
    for (int i = 0; i < 1000; ++i)
      pool.submit(square, i).add_done_callback([&](auto& f) {
        f.result();
        if (++called % 100 == 0) throw std::runtime_error("callback");
      });
  }
  CHECK(called == 1000);
}

TEST_CASE("a callback may drop the last handle of its own pool") {
  auto pool = std::make_shared<mp::ProcessPoolExecutor>(1);
  const pid_t worker = pool->submit(who).result();
  mp::Event go, dropped;
  pool->submit([go]() mutable { go.wait(); }).add_done_callback([pool, dropped](auto&) mutable {
    pool.reset();
    dropped.set();
  });
  pool.reset();
  go.set();
  CHECK(dropped.wait(20s));
  mp::os::Deadline deadline(20s);
  while (::kill(worker, 0) == 0 && !deadline.passed()) std::this_thread::sleep_for(1ms);
  CHECK(::kill(worker, 0) == -1);
}

TEST_CASE("wait and as_completed see tasks as they end") {
  mp::ProcessPoolExecutor pool(2);
  std::vector<mp::Future<int>> futures;
  for (int i = 0; i < 50; ++i) futures.push_back(pool.submit(square, i));
  int seen = 0;
  for (auto& f : mp::as_completed(futures, 30s)) {
    CHECK(f.done());
    ++seen;
  }
  CHECK(seen == 50);
  auto hanging = pool.submit([] { return sleep_for_ever(), 0; });
  futures.push_back(hanging);
  auto [done, not_done] = mp::wait(futures, 100ms);
  CHECK(done.size() == 50);
  CHECK(not_done.size() == 1);
  CHECK(hanging.kill());
}

// Workers beyond the number of CPUs are woken only once tasks wait for a while.
TEST_CASE("all workers run at once where their tasks wait for each other, however few CPUs there are") {
  constexpr int kWorkers = 24;
  mp::ProcessPoolExecutor pool(kWorkers);
  mp::Barrier all(kWorkers);
  for (int round = 0; round < 5; ++round) {
    std::vector<mp::Future<bool>> futures;
    for (int i = 0; i < kWorkers; ++i) {
      futures.push_back(pool.submit(
          [](mp::Barrier barrier) {
            barrier.wait(30s);
            return true;
          },
          all));
    }
    for (auto& f : futures) REQUIRE(f.result(40s));
  }
}

// Tiny tasks are left to the one worker that does them all; what comes after may need another.
TEST_CASE("tasks that wait for one another run side by side, also right after a stream of tiny ones") {
  for (const unsigned workers : {2u, 5u}) {
    mp::ProcessPoolExecutor pool(workers);
    std::vector<mp::Future<int>> tiny(2000);
    for (int round = 0; round < 20; ++round) {
      for (int i = 0; i < 2000; ++i) tiny[static_cast<std::size_t>(i)] = pool.submit(square, i);
      for (int i = 0; i < 2000; ++i) CHECK(tiny[static_cast<std::size_t>(i)].result() == i * i);
      mp::Event open;
      auto waits = pool.submit(
          [](mp::Event e) {
            e.wait();
            return 7;
          },
          open);
      // While it runs, one by one and many at a time.
      for (int i = 0; i < 5; ++i) CHECK(pool.submit(square, i).result(60s) == i * i);
      for (int i = 0; i < 100; ++i) tiny[static_cast<std::size_t>(i)] = pool.submit(square, i);
      auto opens = pool.submit([](mp::Event e) { e.set(); }, open);
      CHECK(waits.result(60s) == 7);
      opens.result(60s);
      for (int i = 0; i < 100; ++i) CHECK(tiny[static_cast<std::size_t>(i)].result(60s) == i * i);
    }
  }
}

TEST_CASE("tasks of several threads all come back, whichever had the pool to itself before") {
  mp::ProcessPoolExecutor pool(2);
  auto sum = [&] {
    long total = 0;
    for (int i = 0; i < 2000; ++i) total += pool.submit(square, 3).result();
    return total;
  };
  REQUIRE(sum() == 18'000);
  std::vector<long> totals(3);
  std::vector<std::thread> threads;
  for (long& total : totals) threads.emplace_back([&] { total = sum(); });
  for (auto& thread : threads) thread.join();
  CHECK(totals == std::vector<long>(3, 18'000));
}

TEST_CASE("terminating a pool is bounded and leaves no future unresolved") {
  mp::ProcessPoolExecutor pool(2);
  std::vector<mp::Future<void>> futures;
  for (int i = 0; i < 20; ++i) futures.push_back(pool.submit(sleep_for_ever));
  pool.terminate_workers();
  for (auto& f : futures) CHECK_THROWS_AS(f.result(10s), mp::CancelledError);
}

TEST_CASE("a pool gives its memory back") {
  { mp::ProcessPoolExecutor(1).submit(square, 1).result(); }
  std::size_t before = mp::memory::bytes_in_use();
  for (int round = 0; round < 3; ++round) {
    mp::ProcessPoolExecutor pool(2);
    std::vector<std::string> words(500, std::string(300, 'w'));
    for (std::string s : pool.map(twice, words)) CHECK(s.size() == 600);
    for (int i = 0; i < 500; ++i) pool.submit(twice, std::string(1000, 'x'));
  }
  CHECK(mp::memory::bytes_in_use() <= before + 4096);
}
