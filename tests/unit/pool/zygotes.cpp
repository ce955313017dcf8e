// A pool's zygote, from which its workers are forked, and the heir that takes its place.
#include <mp/pool/executor.hpp>

#include <doctest/doctest.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "child.hpp"
#include "heir.hpp"

using namespace std::chrono_literals;

namespace {

int square(int x) { return x * x; }
void sleep_for_ever() {
  for (;;) ::pause();
}
// Kills the zygote of a pool and waits until its workers are gone with it: a task that is posted afterwards is not theirs. Returns what
// was killed. `rest`: for how long the pool has nothing to do before.
pid_t kill_zygote(mp::ProcessPoolExecutor& pool, std::chrono::milliseconds rest = {}) {
  const pid_t zygote = pool.submit([] { return ::getppid(); }).result(30s);
  const std::vector<pid_t> children = test::children_of(zygote);
  std::this_thread::sleep_for(rest);
  ::kill(zygote, SIGKILL);
  // An heir lives on.
  CHECK(test::eventually(
      [&] {
        return std::count_if(children.begin(), children.end(), [](pid_t pid) { return ::kill(pid, 0) == 0; }) <= 1;
      },
      20s));
  return zygote;
}

}  // namespace

TEST_CASE("a pool whose zygote is killed goes on with new workers") {
  mp::ProcessPoolExecutor pool(2);
  kill_zygote(pool);
  int values = 0;
  for (int i = 0; i < 100; ++i) {
    try {
      values += pool.submit(square, i).result(30s) == i * i;
    } catch (const mp::WorkerCrashed&) {}
  }
  CHECK(values >= 98);
}

// Nothing rings for the death of a zygote: its workers die by the kernel's hand, and it was to tell of them.
TEST_CASE("the death of a zygote is noticed though nobody waits for a result, in a busy pool as in an idle one") {
  mp::ProcessPoolExecutor pool(2);
  for (bool busy : {false, true}) {
    CAPTURE(busy);
    std::atomic<int> called{0};
    std::optional<mp::Future<void>> task;
    if (busy) {
      task = pool.submit(sleep_for_ever);
      task->add_done_callback([&](auto&) { ++called; });
      REQUIRE(test::eventually([&] { return task->running(); }, 20s));
    }
    kill_zygote(pool, 50ms);  // all asleep that will sleep
    if (!busy) pool.submit(square, 3).add_done_callback([&](auto& f) { called += f.result() == 9; });
    REQUIRE(test::eventually([&] { return called == 1; }, 20s));
    if (!busy) continue;
    try {
      task->result();
      FAIL("a task outlived its zygote");
    } catch (const mp::WorkerCrashed& e) {
      CHECK(e.details().signal == SIGKILL);  // nobody has its exit code any more, but this is how it ends
    }
  }
}

// Forked by the owner's supervisor, they would be copies of a program in the midst of something: of a lock that somebody holds, say.
TEST_CASE("workers after a zygote's death are copies of the program as it was when the pool began") {
  static std::mutex mutex;
  static int number;
  number = 1;
  mp::ProcessPoolExecutor pool(1);
  number = 2;
  std::lock_guard guard(mutex);
  std::set<pid_t> zygotes;
  for (int death = 0; death < 3; ++death) {
    CAPTURE(death);
    test::await_heir(pool);
    zygotes.insert(kill_zygote(pool));
    auto task = pool.submit(mp::TaskOptions{.timeout = 20s}, [] {
      std::lock_guard inside(mutex);
      return number;
    });
    CHECK(task.result(30s) == 1);
  }
  CHECK(zygotes.size() == 3);
}

TEST_CASE("zygotes killed at their birth are replaced until one gets through") {
  static test::Shared<std::atomic<int>> to_die;
  static const int registered = ::pthread_atfork(nullptr, nullptr, [] {
    if (*to_die > 0 && to_die->fetch_sub(1) > 0) ::raise(SIGKILL);
  });
  REQUIRE(registered == 0);
  for (int i = 0; i < 3; ++i) {
    *to_die = 8;
    mp::ProcessPoolExecutor pool(2);
    CHECK(pool.submit(square, 6).result(30s) == 36);
    CHECK(*to_die <= 0);
    *to_die = 0;
  }
}
