// Event: a flag to wait for, also set from signal handlers.
#include <mp/sync/event.hpp>

#include <doctest/doctest.h>

#include <sys/time.h>

#include <thread>
#include <vector>

#include "child.hpp"

using namespace std::chrono_literals;

TEST_CASE("an event is clear at first, set by set, clear again by clear") {
  mp::Event event;
  CHECK_FALSE(event.is_set());
  CHECK_FALSE(event.wait(0ms));
  CHECK_FALSE(event.wait(-1s));
  auto took = test::time_of([&] { CHECK_FALSE(event.wait(50ms)); });
  CHECK(took >= 50ms);
  CHECK(took < 5s);
  event.set();
  event.set();
  CHECK(event.is_set());
  CHECK(event.wait());
  CHECK(event.wait(0ms));
  event.clear();
  CHECK_FALSE(event.is_set());
  CHECK_FALSE(event.wait(0ms));
}

TEST_CASE("set in one process wakes all who wait in others, and in threads") {
  mp::Event event;
  test::Shared<std::atomic<int>> waiting(0);
  auto wait = [&] {
    ++*waiting;
    return event.wait(20s) ? 0 : 1;
  };
  auto team = test::children(10, [&](int) { return wait(); });
  std::vector<std::thread> threads;
  std::atomic<int> failed{0};
  for (int i = 0; i < 10; ++i) threads.emplace_back([&] { failed += wait(); });
  CHECK(test::eventually([&] { return *waiting == 20; }));
  CHECK(test::in_child([&] { event.set(); }) == 0);
  CHECK(test::all_succeed(team));
  for (auto& t : threads) t.join();
  CHECK(failed == 0);
}

TEST_CASE("who waits sees a set() even if clear() follows at once") {
  mp::Event event;
  for (int i = 0; i < 200; ++i) {
    test::Shared<std::atomic<bool>> ready(false);
    test::Child child([&] {
      *ready = true;
      return event.wait(20s) ? 0 : 1;
    });
    while (!*ready) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(i * 5));
    event.set();
    event.clear();
    // A child that had not come to wait yet is set free by this.
    bool ended = child.ends_within(i % 20 == 0 ? 500ms : 5ms);
    if (!ended) event.set();
    CHECK(child.wait() == 0);
    event.clear();
  }
}

TEST_CASE("a stopped waiter sees the set() that came and went") {
  mp::Event event;
  test::Shared<std::atomic<bool>> ready(false);
  test::Child child([&] {
    *ready = true;
    return event.wait(20s) ? 0 : 1;
  });
  REQUIRE(test::eventually([&] { return ready->load(); }));
  std::this_thread::sleep_for(50ms);  // it waits by now
  child.signal(SIGSTOP);
  event.set();
  event.clear();
  child.signal(SIGCONT);
  CHECK(child.ends_within(5s));
  CHECK(child.wait() == 0);
}

namespace {
mp::Event* signalled;
}

TEST_CASE("set may be called in a signal handler, also while the same thread waits") {
  mp::Event event;
  signalled = &event;
  CHECK(test::in_child([&] {
          struct sigaction act{};
          act.sa_handler = [](int) { signalled->set(); };
          ::sigaction(SIGALRM, &act, nullptr);
          for (int i = 0; i < 50; ++i) {
            event.clear();
            itimerval soon{{0, 0}, {0, 1000 + i * 40}};
            ::setitimer(ITIMER_REAL, &soon, nullptr);
            if (!event.wait(10s)) return 1;
          }
          return 0;
        }) == 0);
}

TEST_CASE("a signal handler may set while the program itself sets and clears") {
  mp::Event event;
  signalled = &event;
  CHECK(test::in_child([&] {
          struct sigaction act{};
          act.sa_handler = [](int) { signalled->set(); };
          ::sigaction(SIGALRM, &act, nullptr);
          itimerval often{{0, 100}, {0, 100}};
          ::setitimer(ITIMER_REAL, &often, nullptr);
          for (int i = 0; i < 200'000; ++i) {
            event.set();
            event.clear();
          }
          return event.wait(10s) ? 0 : 1;
        }) == 0);
}

TEST_CASE("killed waiters do not hang set") {
  mp::Event event;
  test::Shared<std::atomic<int>> waiting(0);
  auto team = test::children(4, [&](int) {
    ++*waiting;
    event.wait();
  });
  REQUIRE(test::eventually([&] { return *waiting == 4; }));
  for (int i = 0; i < 3; ++i) team[static_cast<std::size_t>(i)].kill();
  CHECK(test::time_of([&] { event.set(); }) < 1s);
  CHECK(team[3].wait() == 0);
}

TEST_CASE("what was written before set is seen after wait") {
  mp::Event there, back;
  test::Shared<int> value(0);
  test::Child child([&] {
    for (int i = 1; i <= 1000; ++i) {
      there.wait();
      there.clear();
      if (*value != i) return 1;
      *value = -i;
      back.set();
    }
    return 0;
  });
  bool well = true;
  for (int i = 1; i <= 1000; ++i) {
    *value = i;
    there.set();
    well = well && back.wait(20s);
    back.clear();
    well = well && *value == -i;
    if (!well) break;
  }
  CHECK(well);
  CHECK(child.wait() == 0);
}
