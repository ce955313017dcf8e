// A pool that cannot replace its workers for a while: the kernel refuses fork(2), or what a worker needs to begin.
#include "mp/pool.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <chrono>
#include <set>
#include <string>
#include <thread>

#include "child.hpp"
#include "mp/executor.hpp"
#include "mp/os/call.hpp"

namespace {

using namespace std::chrono_literals;

constexpr auto kLong = 30s;

// Inherited by the processes that a pool forks, so that it reaches their calls, too.
struct Refusal {
  std::atomic<int> call{-1}, error{0};
  std::atomic<int> times{0};
};
Refusal* refusal = nullptr;

int refuse(mp::os::Call call) noexcept {
  if (static_cast<int>(call) != refusal->call.load()) return 0;
  refusal->times.fetch_add(1);
  return refusal->error.load();
}

struct Refusing {
  test::Shared<Refusal> shared;
  Refusing() {
    refusal = &*shared;
    mp::os::fault_hook = refuse;
  }
  ~Refusing() { mp::os::fault_hook = nullptr; }
  void begin(mp::os::Call call, int error) {
    shared->error = error;
    shared->call = static_cast<int>(call);
  }
  void end() { shared->call = -1; }
};

int square(int x) { return x * x; }
pid_t pid_after(std::chrono::milliseconds time) {
  std::this_thread::sleep_for(time);
  return ::getpid();
}

// Whether `n` workers work at once.
bool works_with(mp::ProcessPoolExecutor& pool, std::size_t n) {
  return test::eventually(
      [&] {
        std::set<pid_t> seen;
        for (pid_t pid : pool.map(pid_after, std::vector<std::chrono::milliseconds>(n * 4, 10ms))) seen.insert(pid);
        return seen.size() == n;
      },
      kLong);
}

void kill_all(const std::set<pid_t>& pids) {
  for (pid_t pid : pids) ::kill(pid, SIGKILL);
}

std::set<pid_t> workers_of(mp::ProcessPoolExecutor& pool) {
  std::set<pid_t> seen;
  for (pid_t pid : pool.map(pid_after, std::vector<std::chrono::milliseconds>(16, 10ms))) seen.insert(pid);
  return seen;
}

}  // namespace

TEST_CASE("a pool whose dead worker cannot be replaced goes on with the others, and is whole again afterwards") {
  for (auto [call, error] : {std::pair{mp::os::Call::fork, EAGAIN}, std::pair{mp::os::Call::fork, ENOMEM},
                             std::pair{mp::os::Call::open, ENFILE}}) {
    Refusing refusing;
    mp::ProcessPoolExecutor pool(3);
    REQUIRE(works_with(pool, 3));
    const std::set<pid_t> before = workers_of(pool);
    refusing.begin(call, error);
    kill_all({*before.begin()});
    // More than three times: it is no crash loop, which would break the pool.
    CHECK(test::eventually([&] { return refusing.shared->times >= 5; }, kLong));
    for (int i = 0; i < 100; ++i) REQUIRE(pool.submit(square, i).result(kLong) == i * i);
    for (pid_t pid : workers_of(pool)) CHECK(before.contains(pid));
    refusing.end();
    CHECK(works_with(pool, 3));
  }
}

TEST_CASE("a pool that has no worker for a moment goes on when the moment is over") {
  Refusing refusing;
  mp::ProcessPoolExecutor pool(2);
  REQUIRE(works_with(pool, 2));
  refusing.begin(mp::os::Call::fork, EAGAIN);
  kill_all(workers_of(pool));
  auto later = pool.submit(mp::TaskOptions{.retries = 2}, square, 7);
  CHECK(test::eventually([&] { return refusing.shared->times >= 4; }, kLong));
  refusing.end();
  CHECK(later.result(kLong) == 49);
  CHECK(works_with(pool, 2));
}

TEST_CASE("a pool that can have no worker at all ends, and says why") {
  Refusing refusing;
  mp::ProcessPoolExecutor pool(2);
  REQUIRE(works_with(pool, 2));
  refusing.begin(mp::os::Call::fork, EAGAIN);
  kill_all(workers_of(pool));
  auto never = pool.submit(mp::TaskOptions{.retries = 2}, square, 7);
  std::string why;
  try {
    never.result(kLong);
  } catch (const mp::BrokenProcessPool& e) {
    why = e.what();
  }
  CHECK(why.find("no worker can be started: fork of a worker: Resource temporarily unavailable (RLIMIT_NPROC") !=
        why.npos);
  CHECK_THROWS_AS(pool.submit(square, 1), mp::BrokenProcessPool);
  refusing.end();
  mp::ProcessPoolExecutor next(2);
  CHECK(next.submit(square, 3).result(kLong) == 9);
}
