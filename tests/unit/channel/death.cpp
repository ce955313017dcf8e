#include "mp/queue.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "mp/connection.hpp"
#include "mp/memory/ref.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using test::Child;

namespace {

constexpr int kKills = 300;
constexpr std::size_t kMostItems = 4'000'000;

// What producers and consumers did, in shared memory.
struct Log {
  std::atomic<std::uint64_t> next{0};
  std::atomic<std::uint8_t> put[kMostItems];
  std::atomic<std::uint8_t> got[kMostItems];
};

template <class T>
T make_item(std::uint64_t n) {
  if constexpr (std::is_same_v<T, std::string>) {
    // Small ones, and now and then one that has a block of its own.
    std::string item(n % 16 == 0 ? 20'000 : 8 + n % 600, static_cast<char>(n));
    std::memcpy(item.data(), &n, sizeof n);
    return item;
  } else {
    return static_cast<T>(n);
  }
}

template <class T>
std::uint64_t number_of(const T& item) {
  if constexpr (std::is_same_v<T, std::string>) {
    std::uint64_t n;
    std::memcpy(&n, item.data(), sizeof n);
    if (item != make_item<std::string>(n)) ::_exit(50);
    return n;
  } else {
    return static_cast<std::uint64_t>(item);
  }
}

}  // namespace

TEST_CASE_TEMPLATE("readers and writers killed at any instant cost at most the item that they held", T, long,
                   std::string) {
  const auto log = mp::memory::create<Log>(mp::memory::Kind::value, 0, 0);
  const mp::Queue<T> queue(64);
  auto produce = [queue, log] {
    Log& l = log.template as<Log>();
    for (;;) {
      const std::uint64_t n = l.next.fetch_add(1);
      if (n >= kMostItems) {
        while (!queue.is_shut_down()) std::this_thread::sleep_for(1ms);
        return 0;
      }
      try {
        queue.put(make_item<T>(n));
      } catch (const mp::ShutDown&) {
        return 0;
      }
      l.put[n].store(1);
    }
  };
  auto consume = [queue, log] {
    for (T item : queue) log.template as<Log>().got[number_of(item)].fetch_add(1);
    return 0;
  };
  std::vector<Child> producers, consumers;
  for (int i = 0; i < 2; ++i) {
    producers.emplace_back(produce);
    consumers.emplace_back(consume);
  }
  std::mt19937 random(4711);
  const auto pick = [&](int below) { return static_cast<std::size_t>(random() % static_cast<unsigned>(below)); };
  int killed_consumers = 0;
  for (int kill = 0; kill < kKills; ++kill) {
    std::this_thread::sleep_for(std::chrono::microseconds(pick(3000)));
    auto& team = pick(2) ? producers : consumers;
    if (&team == &consumers) ++killed_consumers;
    const std::size_t victim = pick(2);
    team[victim].kill();
    CHECK(team[victim].join() == -SIGKILL);
    team.erase(team.begin() + static_cast<std::ptrdiff_t>(victim));
    if (&team == &consumers) team.emplace_back(consume);
    else team.emplace_back(produce);
  }
  queue.shutdown();
  for (Child& child : producers) CHECK(child.join() == 0);
  for (Child& child : consumers) CHECK(child.join() == 0);
  CHECK(queue.empty());

  const Log& l = log.template as<Log>();
  std::uint64_t doubled = 0, lost = 0, count = std::min<std::uint64_t>(l.next, kMostItems);
  for (std::uint64_t n = 0; n < count; ++n) {
    doubled += l.got[n] > 1;
    lost += l.put[n] == 1 && l.got[n] == 0;
  }
  MESSAGE(count, " items, ", kKills, " kills, ", killed_consumers, " of readers; ", lost, " items lost with them");
  CHECK(doubled == 0);
  CHECK(lost <= static_cast<std::uint64_t>(killed_consumers));
}

TEST_CASE("a writer killed while it sends leaves whole messages, in order, and then the end of file") {
  std::mt19937 random(7);
  std::uint64_t messages = 0;
  for (int round = 0; round < 100; ++round) {
    auto [here, there] = mp::Pipe();
    Child child([there = std::move(there)]() mutable {
      for (std::uint64_t n = 0;; ++n) there.send(make_item<std::string>(n));
      return 0;
    });
    std::thread killer([&, wait = std::chrono::microseconds(random() % 3000)] {
      std::this_thread::sleep_for(wait);
      child.kill();
    });
    std::uint64_t next = 0;
    bool in_order = true;
    try {
      for (;; ++next) in_order = in_order && here.recv<std::string>() == make_item<std::string>(next);
    } catch (const mp::EOFError&) {}
    killer.join();
    CHECK(in_order);
    messages += next;
  }
  MESSAGE(messages, " messages received");
}

TEST_CASE("a reader killed while it receives breaks the writer's pipe") {
  std::mt19937 random(8);
  for (int round = 0; round < 100; ++round) {
    auto [here, there] = mp::Pipe();
    Child child([there = std::move(there)]() mutable {
      for (;;) there.recv<std::string>();
      return 0;
    });
    std::thread killer([&, wait = std::chrono::microseconds(random() % 3000)] {
      std::this_thread::sleep_for(wait);
      child.kill();
    });
    CHECK_THROWS_AS(for (std::uint64_t n = 0;; ++n) here.send(make_item<std::string>(n)), mp::BrokenPipeError);
    killer.join();
  }
}

TEST_CASE("a worker that dies between get and task_done is reported by join, once") {
  const mp::JoinableQueue<int> queue;
  for (int i = 0; i < 5; ++i) queue.put(i);
  Child child([queue] {
    queue.get();
    queue.task_done();
    queue.get();
    queue.get();
    queue.task_done();
    queue.get();
    for (;;) ::pause();
    return 0;
  });
  while (queue.qsize() > 1) std::this_thread::sleep_for(1ms);
  CHECK_FALSE(queue.join(50ms));  // it lives
  child.kill();
  child.join();
  CHECK(queue.get() == 4);
  queue.task_done();
  CHECK_THROWS_WITH_AS(queue.join(10s), doctest::Contains("2 item(s)"), mp::OwnerDied);
  CHECK(queue.join(0s));
  queue.put(6);
  CHECK_FALSE(queue.join(0s));
}

TEST_CASE("workers killed at any instant leave join exact") {
  std::mt19937 random(9);
  const mp::JoinableQueue<int> queue(16);
  auto work = [queue] {
    for ([[maybe_unused]] int item : queue) queue.task_done();
    return 0;
  };
  Child producer([queue] {
    for (int i = 0;; ++i)
      if (!queue.put_for(i, 10s)) return 0;
  });
  std::vector<Child> workers;
  for (int i = 0; i < 2; ++i) workers.emplace_back(work);
  for (int kill = 0; kill < 100; ++kill) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
    workers[0].kill();
    workers.erase(workers.begin());
    workers.emplace_back(work);
  }
  producer.kill();
  producer.join();
  // What the dead had taken, at most one item each, is told; then all is done, and no task_done() is left over.
  int told = 0;
  for (bool done = false; !done;) {
    try {
      done = queue.join(20s);
      REQUIRE(done);
    } catch (const mp::OwnerDied&) {
      ++told;
    }
  }
  MESSAGE("told ", told, " times of the dead");
  CHECK_THROWS_AS(queue.task_done(), mp::ValueError);
  queue.shutdown();
  for (Child& worker : workers) CHECK(worker.join() == 0);
}
