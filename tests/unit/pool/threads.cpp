#include "mp/pool/executor.hpp"

#include <doctest/doctest.h>
#include <pthread.h>
#include <sys/wait.h>

#include <mutex>
#include <ranges>
#include <set>
#include <thread>

#include "gate.hpp"

using namespace std::chrono_literals;

namespace {

std::string thread_name() {
  char name[16] = {};
  ::pthread_getname_np(::pthread_self(), name, sizeof name);
  return name;
}

}  // namespace

TEST_CASE("an idle thread is used before a new one is made") {
  auto engine = mp::pool::ThreadEngine::start({.workers = 8});
  CHECK(engine->threads() == 0);
  for (int i = 0; i < 20; ++i) {
    submit(*engine, {}, [] {}).result();
    std::this_thread::sleep_for(1ms);  // most often it is idle again by now
  }
  CHECK(engine->threads() < 8);
  engine->close(false);
  engine->join();
}

TEST_CASE("threads come up to the limit and no further") {
  test::OwnGate gate;
  auto engine = mp::pool::ThreadEngine::start({.workers = 3});
  std::vector<mp::Future<void>> futures;
  for (int i = 0; i < 30; ++i) futures.push_back(submit(*engine, {}, [&] { gate.pass(); }));
  CHECK(engine->threads() == 3);
  gate.let(30);
  engine->close(false);
  engine->join();
  for (auto& f : futures) CHECK(f.done());
}

TEST_CASE("threads are called by the prefix and their number") {
  mp::ThreadPoolExecutor executor({.max_workers = 1, .thread_name_prefix = "painter"});
  CHECK(executor.submit(thread_name).result() == "painter_0");
  mp::ThreadPoolExecutor longer({.max_workers = 1, .thread_name_prefix = "a very long prefix"});
  CHECK(longer.submit(thread_name).result() == "a very long p_0");
}

TEST_CASE("what only moves goes to a thread and back") {
  mp::ThreadPoolExecutor executor(2);
  auto f =
      executor.submit([p = std::make_unique<int>(1)](std::unique_ptr<int> q) { return std::make_unique<int>(*p + *q); },
                      std::make_unique<int>(2));
  CHECK(*std::move(f).result() == 3);

  std::vector<std::unique_ptr<int>> in;
  for (int i = 0; i < 10; ++i) in.push_back(std::make_unique<int>(i));
  int sum = 0;
  for (auto& p : executor.map([](std::unique_ptr<int> q) { return q; }, std::move(in))) sum += *p;
  CHECK(sum == 45);
  CHECK_THROWS_AS(
      executor.submit({.retries = 1}, [](std::unique_ptr<int>) {}, std::make_unique<int>(1)), mp::ValueError);
}

TEST_CASE("std::ref passes the caller's own object") {
  mp::ThreadPoolExecutor executor(1);
  int n = 0;
  executor.submit([](int& x) { x = 5; }, std::ref(n)).result();
  CHECK(n == 5);
}

TEST_CASE("what a call holds is let go before its result is there") {
  mp::ThreadPoolExecutor executor(1);
  auto held = std::make_shared<int>(1);
  executor.submit([](const std::shared_ptr<int>&) {}, held).result();
  CHECK(held.use_count() == 1);
  executor.submit([held] { throw 1; }).exception();
  CHECK(held.use_count() == 1);
}

TEST_CASE("a mutable callable has a state of its own in each chunk") {
  mp::ThreadPoolExecutor executor(4);
  std::vector<int> got = executor.map({.chunksize = 5}, [n = 0](int) mutable { return ++n; }, std::views::iota(0, 20));
  for (int i = 0; i < 20; ++i) CHECK(got[i] == i % 5 + 1);
}

TEST_CASE("a task may submit to its own pool, shut it down, and drop the last handle to it") {
  auto executor = std::make_shared<mp::ThreadPoolExecutor>(1);
  auto f = executor->submit([executor] {
    auto inner = executor->submit([] { return 7; });
    executor->shutdown(true);  // does not wait for itself
    return inner;
  });
  executor.reset();
  CHECK(f.result().result() == 7);
}

TEST_CASE("every waiter of a map hears of its item") {
  mp::ThreadPoolExecutor executor(4);
  auto engine = mp::pool::ThreadEngine::start({.workers = 2});
  for (int round = 0; round < 50; ++round) {
    auto map = mp::pool::map_items<false>(*engine, {}, [](int n) { return n; }, std::views::iota(0, 100));
    std::vector<mp::Future<int>> sums;
    for (int start = 0; start < 4; ++start) {
      sums.push_back(executor.submit([map, start] {
        int sum = 0;
        for (std::size_t i = start; i < 100; i += 4) {
          map->wait(i, mp::os::Deadline());
          sum += map->take(i);
        }
        return sum;
      }));
    }
    int sum = 0;
    for (auto& s : sums) sum += s.result();
    CHECK(sum == 4950);
  }
}

TEST_CASE("a fork child neither uses nor hangs on its copy of a thread pool") {
  mp::ThreadPoolExecutor executor(2);
  executor.submit([] {}).result();
  pid_t child = ::fork();
  if (child == 0) {
    int code = 1;
    try {
      mp::ThreadPoolExecutor copy(std::move(executor));
      try {
        copy.submit([] {});
      } catch (const mp::Error&) {
        code = 0;
      }
    } catch (...) {}
    ::_exit(code);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(executor.submit([] { return 1; }).result() == 1);
}
