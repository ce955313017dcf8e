// Workers that have written over what they share with their pool before they die: the pool believes none of it.
#include <mp/pool/executor.hpp>

#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <iterator>
#include <string>
#include <vector>

#include <mp/memory/family.hpp>
#include <mp/pool/worker.hpp>
#include <mp/process/record.hpp>

namespace {

using mp::pool::this_worker;

int square(int x) { return x * x; }

// What the worker says of the task it runs, and how: nonsense.
int lie_and_die(std::uint64_t intent, std::uint64_t item) {
  this_worker()->intent.store(intent);
  this_worker()->item.store(item);
  this_worker()->since.store(1);
  return ::raise(SIGKILL);
}

int lie_and_die_on_three(int x) {
  if (x == 3) return lie_and_die(this_worker()->intent.load(), ~std::uint64_t{0});
  return x;
}

mp::process::Record& server_of_this_worker() {
  const mp::memory::Tag server = mp::process::own_record()->server;
  return *mp::memory::at<mp::process::Record>(mp::memory::member(server).record.load());
}

void damage_the_servers_inbox() {
  mp::process::Record& server = server_of_this_worker();
  server.inbox.store(mp::memory::offset_of(&server) + 8);
  ::kill(server.pid.load(), SIGCHLD);
  for (;;) ::pause();
}

// A request that names itself as the next.
void lead_the_servers_inbox_in_a_circle() {
  mp::process::Record& server = server_of_this_worker();
  mp::process::Record& own = *mp::process::own_record();
  own.next = mp::memory::offset_of(&own);
  server.inbox.store(own.next);
  ::kill(server.pid.load(), SIGCHLD);
  for (;;) ::pause();
}

// A bag is a list of pieces, each the next one's offset, the number of places, and those.
enum class Bag { places, next, entries, itself };

void damage_own_bag_and_record(Bag what) {
  constexpr mp::memory::Offset kWrong = ~mp::memory::Offset{15};
  mp::memory::Member& me = mp::memory::member(mp::memory::self());
  auto* bag = mp::memory::at<std::uint64_t>(me.bag.load());
  switch (what) {
    case Bag::places: bag[1] = ~std::uint64_t{0}; break;
    case Bag::next: bag[0] = kWrong; break;
    case Bag::entries: {
      // In each of an entry's states (its lowest bits): nowhere, and in the arena's own tables. Held: in a block that is no object.
      const std::uint64_t wrong[] = {kWrong,     kWrong | 1, kWrong | 2,
                                     kWrong | 3, 4096,       4096 | 1,
                                     4096 | 2,   4096 | 3,   mp::memory::offset_of(bag) + 64};
      std::size_t done = 0;
      for (std::uint64_t* entry = bag + 2; entry != bag + 2 + bag[1] && done < std::size(wrong); ++entry)
        if (*entry == 0) *entry = wrong[done++];
      break;
    }
    case Bag::itself: me.bag.store(kWrong); break;
  }
  mp::process::Record& record = *mp::process::own_record();
  record.bell_object = 4096;
  record.payload.store(kWrong);
  std::fill_n(record.identity, sizeof record.identity, 'x');
  std::fill_n(record.parent_name, sizeof record.parent_name, 'x');
  ::raise(SIGKILL);
}

}  // namespace

TEST_CASE("a task ends with its worker whatever that has said of itself") {
  mp::ProcessPoolExecutor pool(2);
  // No task, a slot that there is not, one that is another's, one of another time.
  for (const std::uint64_t intent : {std::uint64_t{0}, ~std::uint64_t{0}, std::uint64_t{0x7fffffff},
                                     std::uint64_t{2000}, std::uint64_t{1} << 40 | 1}) {
    auto victim =
        pool.submit(mp::TaskOptions{.timeout = std::chrono::seconds(60)}, lie_and_die, intent, ~std::uint64_t{0});
    CHECK_THROWS_AS(victim.result(std::chrono::seconds(60)), mp::WorkerCrashed);
    CHECK(pool.submit(square, 7).result() == 49);
  }
}

TEST_CASE("a chunk's worker that names an item which is not in it costs no item but its own") {
  mp::ProcessPoolExecutor pool(2);
  auto results = pool.map(mp::MapOptions{.chunksize = 2}, lie_and_die_on_three, std::vector<int>{0, 1, 2, 3, 4, 5});
  auto it = results.begin();
  for (int i : {0, 1, 2}) {
    CHECK(*it == i);
    ++it;
  }
  CHECK_THROWS_AS(*it, mp::WorkerCrashed);
  ++it;
  for (int i : {4, 5}) {
    CHECK(*it == i);
    ++it;
  }
}

TEST_CASE("a process server whose list of requests is damaged ends, and a new one takes its place") {
  mp::ProcessPoolExecutor pool(2);
  for (auto* damage : {damage_the_servers_inbox, lead_the_servers_inbox_in_a_circle})
    CHECK_THROWS_AS(pool.submit(damage).result(std::chrono::seconds(60)), mp::WorkerCrashed);
  CHECK(pool.submit(square, 7).result(std::chrono::seconds(60)) == 49);
}

TEST_CASE("what a dead worker's damaged lists name is left alone, and harms neither its pool nor its server") {
  mp::ProcessPoolExecutor pool(2);
  const pid_t server = pool.submit(::getppid).result(std::chrono::seconds(60));
  for (const Bag what : {Bag::places, Bag::next, Bag::entries, Bag::itself}) {
    CAPTURE(what);
    CHECK_THROWS_AS(pool.submit(damage_own_bag_and_record, what).result(std::chrono::seconds(60)), mp::WorkerCrashed);
    for (int i = 0; i < 100; ++i) CHECK(pool.submit(square, i).result() == i * i);
    CHECK(pool.submit(::getppid).result(std::chrono::seconds(60)) == server);
  }
}
