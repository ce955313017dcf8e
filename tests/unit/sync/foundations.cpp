// What locks, queues and pipes stand on: Mutex, EventWord, Ledger, Patrol.
#include <mp/sync/event_word.hpp>
#include <mp/sync/ledger.hpp>
#include <mp/sync/mutex.hpp>
#include <mp/sync/patrol.hpp>

#include <doctest/doctest.h>

#include <mutex>
#include <thread>
#include <vector>

#include <mp/memory/arena.hpp>
#include <mp/memory/family.hpp>
#include <mp/memory/ref.hpp>

#include "child.hpp"

using namespace std::chrono_literals;
using mp::memory::Tag;
using mp::os::Deadline;
using mp::os::Woken;
using mp::sync::EventWord;
using mp::sync::Ledger;
using mp::sync::Mutex;

namespace {

// A process that has been and gone, as the family knows it.
Tag dead_member() {
  Tag tag = mp::memory::enlist(mp::memory::self());
  pid_t pid = mp::memory::fork_as(tag);
  if (pid == 0) ::_exit(0);
  test::Child::of(pid).wait();
  return tag;
}

bool flagged(const EventWord& word) { return word.word().load() & 1; }

}  // namespace

TEST_CASE("a mutex whose owner was killed is handed to the next, who is told so, once") {
  test::Shared<Mutex> mutex;
  CHECK_FALSE(mutex->lock());
  mutex->unlock();
  test::Shared<std::atomic<bool>> held(false);
  test::Child owner([&] {
    mutex->lock();
    *held = true;
    for (;;) ::pause();
  });
  REQUIRE(test::eventually([&] { return held->load(); }));
  CHECK_FALSE(mutex->try_lock());
  owner.kill();
  auto took = test::time_of([&] { CHECK(mutex->lock()); });
  CHECK(took < 5s);  // 20 ms and a little on a machine that is not overloaded
  mutex->unlock();
  CHECK_FALSE(mutex->lock());
  mutex->unlock();
}

TEST_CASE("a mutex lets one in at a time, threads of one process and others") {
  test::Shared<Mutex> mutex;
  test::Shared<long> counter(0);
  auto add = [&] {
    for (int i = 0; i < 20'000; ++i) {
      std::lock_guard guard(*mutex);
      *counter = *counter + 1;
    }
  };
  auto team = test::children(2, [&](int) { add(); });
  std::thread a(add), b(add);
  a.join();
  b.join();
  CHECK(test::all_succeed(team));
  CHECK(*counter == 80'000);
}

TEST_CASE("a notification between preparing and sleeping is not slept through") {
  EventWord word;
  std::uint32_t seen = word.prepare();
  word.notify_one();
  CHECK(word.wait(seen, Deadline()) == Woken::changed);
  seen = word.prepare();
  word.notify_all();
  CHECK(word.wait(seen, Deadline()) == Woken::changed);
}

TEST_CASE("a sleep on an event word ends after a slice, and with its deadline") {
  EventWord word;
  CHECK(word.wait(word.prepare(), Deadline()) == Woken::timed_out);
  CHECK(word.wait(word.prepare(), Deadline(mp::Timeout(0s))) == Woken::timed_out);
}

TEST_CASE("notifying where nobody sleeps leaves the word alone, and a flag that a dead sleeper left heals") {
  EventWord word;
  std::uint32_t before = word.word().load();
  word.notify_one();
  word.notify_all();
  CHECK(word.word().load() == before);
  word.prepare();
  CHECK(flagged(word));
  word.notify_one();
  CHECK_FALSE(flagged(word));
  word.prepare();
  word.notify_all();
  CHECK_FALSE(flagged(word));
}

TEST_CASE("every item that is announced by notify_one is fetched, by processes and threads that sleep in between") {
  constexpr long kItems = 3000;
  struct Store {
    EventWord word;
    std::atomic<long> items{0}, fetched{0};
    std::atomic<bool> over{false};
  };
  test::Shared<Store> store;
  auto fetch = [&] {
    while (!store->over) {
      std::uint32_t seen = store->word.prepare();
      long there = store->items.load();
      if (there > 0 && store->items.compare_exchange_strong(there, there - 1)) store->fetched.fetch_add(1);
      else if (there == 0 && !store->over) store->word.wait(seen, Deadline());
    }
    return 0;
  };
  auto team = test::children(2, [&](int) { return fetch(); });
  std::thread thread([&] { fetch(); });
  for (long i = 0; i < kItems; ++i) {
    store->items.fetch_add(1);
    store->word.notify_one();
    if (i % 64 == 0) CHECK(test::eventually([&] { return store->fetched == i + 1; }));
  }
  CHECK(test::eventually([&] { return store->fetched == kItems; }));
  store->over = true;
  store->word.notify_all();
  thread.join();
  CHECK(test::all_succeed(team));
}

TEST_CASE("a ledger counts for each holder, and takes off no more than there is") {
  Ledger ledger;
  const Tag me = mp::memory::self(), other = dead_member();
  ledger.add(me);
  ledger.add(me, 4);
  ledger.add(other, 2);
  CHECK(ledger.count_of(me) == 5);
  CHECK(ledger.sum() == 7);
  CHECK(ledger.take(me, 3) == 3);
  CHECK(ledger.take(me, 3) == 2);
  CHECK(ledger.take(me) == 0);
  CHECK(ledger.count_of(me) == 0);
  CHECK(ledger.take_any(5) == 2);
  CHECK(ledger.sum() == 0);
}

TEST_CASE("a ledger tells what the dead held, and forgets it") {
  Ledger ledger;
  const Tag me = mp::memory::self();
  ledger.add(me, 3);
  CHECK(ledger.dead_holder() == mp::memory::kNobody);
  CHECK(ledger.drop_dead() == 0);
  const Tag one = dead_member(), two = dead_member();
  ledger.add(one, 2);
  ledger.add(two, 5);
  const Tag dead = ledger.dead_holder();
  CHECK((dead == one || dead == two));
  CHECK(ledger.drop_dead() == 7);
  CHECK(ledger.dead_holder() == mp::memory::kNobody);
  CHECK(ledger.sum() == 3);
}

TEST_CASE("a ledger grows with its holders, uses empty places again, and gives its blocks back") {
  static_cast<void>(mp::memory::NewBlock(32));  // what this process keeps for itself is there
  const std::size_t before = mp::memory::bytes_in_use();
  Ledger ledger;
  std::vector<Tag> tags;
  for (int i = 0; i < 200; ++i) tags.push_back(mp::memory::enlist(mp::memory::self()));
  for (Tag tag : tags) ledger.add(tag, tag % 7 + 1);
  for (Tag tag : tags) CHECK(ledger.count_of(tag) == tag % 7 + 1);
  const std::size_t grown = mp::memory::bytes_in_use();
  CHECK(grown > before);
  for (Tag tag : tags) CHECK(ledger.take(tag, 100) == tag % 7 + 1);
  for (Tag tag : tags) ledger.add(tag);
  CHECK(mp::memory::bytes_in_use() == grown);
  CHECK(ledger.sum() == tags.size());
  ledger.free_blocks();
  CHECK(mp::memory::bytes_in_use() == before);
  for (Tag tag : tags) mp::memory::dismiss(tag);
}

TEST_CASE("of many who are due, one goes on patrol") {
  mp::sync::Patrol patrol;
  std::atomic<int> went{0};
  std::vector<std::thread> team;
  for (int i = 0; i < 8; ++i)
    team.emplace_back([&] {
      if (patrol.due()) ++went;
    });
  for (auto& t : team) t.join();
  CHECK(went >= 1);
  auto before = test::Clock::now();
  CHECK(test::eventually([&] {
    before = test::Clock::now();
    return patrol.due();
  }));
  bool again = patrol.due();
  if (test::Clock::now() - before < mp::os::kSlice) CHECK_FALSE(again);
}
