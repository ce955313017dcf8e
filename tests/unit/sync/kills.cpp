// Every lock of the room under processes that are killed at random moments, all day long: MP_SOAK_SECONDS of each, 1 by
// default. After every kill somebody must get on, and in the end each of the living.
#include <mp/sync.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <mp/errors.hpp>
#include <mp/memory/arena.hpp>
#include <mp/memory/family.hpp>
#include <mp/sync/mutex.hpp>

#include "child.hpp"

using namespace std::chrono_literals;

namespace {

constexpr int kTeam = 4;

struct Progress {
  std::array<std::atomic<long>, kTeam> of{};
  std::atomic<long> recovered{0}, torn{0};
  long sum() const {
    long n = 0;
    for (auto& o : of) n += o;
    return n;
  }
};

double seconds() {
  const char* text = std::getenv("MP_SOAK_SECONDS");
  return text ? std::atof(text) : 1;
}

// Keeps kTeam children running `turn(i)` for ever and kills one after another.
template <class Turn>
void soak(const std::string& what, test::Shared<Progress>& progress, Turn turn, bool all_needed = false) {
  auto begin = [&](int i) {
    return test::Child([&, i] {
      for (;;) {
        turn(i);
        progress->of[static_cast<std::size_t>(i)]++;
      }
    });
  };
  std::vector<std::optional<test::Child>> team(kTeam);
  for (int i = 0; i < kTeam; ++i) team[static_cast<std::size_t>(i)].emplace(begin(i));
  std::mt19937 random(std::random_device{}());
  const auto start = test::Clock::now(),
             end = start + std::chrono::duration_cast<test::Clock::duration>(std::chrono::duration<double>(seconds()));
  long kills = 0;
  auto worst = 0ms;
  bool stuck = false;
  while (!stuck && test::Clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 4000));
    int victim = static_cast<int>(random() % kTeam);
    auto& child = team[static_cast<std::size_t>(victim)];
    child.reset();  // SIGKILL
    ++kills;
    if (all_needed) {
      if (random() % 4 == 0) std::this_thread::sleep_for(50ms);  // long enough to be missed
      child.emplace(begin(victim));
    }
    long then = progress->sum();
    worst = std::max(worst,
                     test::time_of([&] { stuck = !test::eventually([&] { return progress->sum() != then; }, 10s); }));
    if (!child) child.emplace(begin(victim));
    mp::memory::sweep();
  }
  CHECK_FALSE(stuck);
  // Each of the living still gets on.
  for (auto& one : progress->of) {
    long then = one;
    CHECK(test::eventually([&] { return one != then; }, 10s));
  }
  long turns = progress->sum();
  team.clear();
  CHECK(progress->torn == 0);
  MESSAGE(what << ": " << kills << " kills, " << progress->recovered.load() << " recoveries, " << turns
               << " turns, worst stall " << worst.count() << " ms");
}

struct Pair {
  std::atomic<long> a{0}, b{0};
};

// One change of a pair that is whole only outside of the lock.
void change(Pair& pair, Progress& progress) {
  if (pair.a != pair.b) ++progress.torn;
  pair.a = pair.a + 1;
  pair.b = pair.b + 1;
}

template <class L>
void soak_lock(const char* what) {
  L lock;
  test::Shared<Progress> progress;
  test::Shared<Pair> pair;
  soak(what, progress, [&](int) {
    try {
      std::lock_guard guard(lock);
      change(*pair, *progress);
    } catch (const mp::OwnerDied&) {
      if (lock.recover([&] { pair->b = pair->a.load(); })) ++progress->recovered;
    }
  });
  lock.recover();
  CHECK(lock.acquire(true, 0ms));
  lock.release();
}

}  // namespace

TEST_CASE("the inner mutex survives kills") {
  auto ref = mp::memory::create<mp::sync::Mutex>(mp::memory::Kind::bytes, 0, 0);
  auto& mutex = ref.as<mp::sync::Mutex>();
  test::Shared<Progress> progress;
  test::Shared<Pair> pair;
  soak("Mutex", progress, [&](int) {
    if (mutex.lock()) {
      ++progress->recovered;
      pair->b = pair->a.load();
    }
    change(*pair, *progress);
    mutex.unlock();
  });
}

TEST_CASE("Lock survives kills") { soak_lock<mp::Lock>("Lock"); }
TEST_CASE("RLock survives kills") { soak_lock<mp::RLock>("RLock"); }

TEST_CASE("Semaphore survives kills, and no token is lost") {
  mp::BoundedSemaphore semaphore(2);
  test::Shared<Progress> progress;
  soak("BoundedSemaphore", progress, [&](int) {
    try {
      std::lock_guard guard(semaphore);
    } catch (const mp::OwnerDied&) {
      if (semaphore.recover()) ++progress->recovered;
    }
  });
  semaphore.recover();
  CHECK(semaphore.get_value() == 2);
}

TEST_CASE("Condition survives kills of those who wait and of those who notify") {
  mp::Condition condition;
  test::Shared<Progress> progress;
  test::Shared<std::atomic<long>> items(0);
  soak("Condition", progress, [&](int i) {
    try {
      std::lock_guard guard(condition);
      if (i % 2 == 0) {
        if (*items > 10 && !condition.wait_for([&] { return *items <= 10; }, 9s)) ++progress->torn;
        ++*items;
      } else {
        if (!condition.wait_for([&] { return *items > 0; }, 9s)) ++progress->torn;
        --*items;
      }
      condition.notify_all();
    } catch (const mp::OwnerDied&) {
      if (!condition.recover()) return;
      ++progress->recovered;
      try {
        std::lock_guard guard(condition);
        condition.notify_all();  // the dead may have owed it
      } catch (const mp::OwnerDied&) {}
    }
  });
}

TEST_CASE("Event survives kills") {
  mp::Event there, back;
  test::Shared<Progress> progress;
  soak("Event", progress, [&](int i) {
    mp::Event& mine = i % 2 ? there : back;
    mp::Event& theirs = i % 2 ? back : there;
    theirs.set();
    mine.wait(100ms);  // who should have set it may be dead
    mine.clear();
  });
}

TEST_CASE("Barrier survives kills") {
  mp::Barrier barrier(kTeam);
  test::Shared<Progress> progress;
  soak(
      "Barrier", progress,
      [&](int) {
        try {
          barrier.wait(9s);
        } catch (const mp::BrokenBarrierError&) {
          ++progress->recovered;
          barrier.reset();
        }
      },
      true);
}
