#include "mp/process/server.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "mp/errors.hpp"
#include "mp/memory/family.hpp"
#include "mp/os/call.hpp"
#include "mp/os/life.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using mp::memory::Offset, mp::memory::Ref;
using mp::os::Deadline;
using mp::process::Phase, mp::process::Record, mp::process::Server, mp::process::Started;
using test::Words;

namespace {

int local_value = 0;

struct Order {
  Order(Offset w, int c) : words(w), code(c) {}
  Offset words;
  int code;
};
Ref order(const Words& words, int code) {
  return mp::memory::create<Order>(mp::memory::Kind::value, 0, 0, words.offset(), code);
}

int reports_and_exits(Offset payload) {
  Order& o = *mp::memory::at<Order>(payload);
  Words::at(o.words, 0) = ::getpid();
  Words::at(o.words, 1) = local_value;
  return o.code;
}
int reports_and_sleeps(Offset payload) {
  Words::at(mp::memory::at<Order>(payload)->words, 0) = ::getpid();
  for (;;) ::pause();
}

Record& about(const Ref& ref) { return ref.as<Record>(); }

int end_of(const Ref& record) {
  REQUIRE(mp::process::await_started(record, Deadline(10s)) == Started::running);
  auto fd = mp::process::pidfd_of(about(record));
  REQUIRE(test::readable(fd.get(), 10s));
  return mp::process::conclude(about(record), fd.get());
}

int forks_allowed = 0;
int refuse_fork(mp::os::Call call) noexcept { return call == mp::os::Call::fork && forks_allowed-- <= 0 ? EAGAIN : 0; }

}  // namespace

TEST_CASE("a zygote's children are copies of its owner as it was") {
  Words words;
  local_value = 42;
  Server server = Server::zygote("zygote");
  local_value = 43;
  REQUIRE(server.usable());
  CHECK(end_of(server.launch(reports_and_exits, order(words, 5), {.name = "w"})) == 5);
  CHECK(words[1] == 42);
  CHECK(words[0] != ::getpid());
  server.shutdown();
  CHECK_FALSE(server.usable());
  CHECK_THROWS_AS(server.launch(reports_and_exits, order(words, 5), {}), mp::Error);
}

TEST_CASE("a clean server's children know nothing of its owner") {
  Words words;
  local_value = 42;
  Server server = Server::clean("clean");
  CHECK(end_of(server.launch(reports_and_exits, order(words, 6), {.name = "w"})) == 6);
  CHECK(words[1] == 0);
}

TEST_CASE("many requests at once all run, and ring the bell") {
  Words words, bell;
  Server server = Server::zygote("zygote");
  std::vector<Ref> records;
  for (int i = 0; i < 40; ++i)
    records.push_back(server.launch(reports_and_exits, order(words, i),
                                    {.name = "w", .bell = bell.offset(), .bell_object = Ref(bell.offset())}));
  for (int i = 0; i < 40; ++i) CHECK(end_of(records[static_cast<std::size_t>(i)]) == i);
  for (int tries = 0; bell[0] < 80 && tries < 10'000; ++tries) std::this_thread::sleep_for(1ms);
  CHECK(bell[0] == 80);  // each began and ended
}

namespace {

// Starts `owner` and kills it: its server, which it names in `servers`, and that one's child, in `words`, are to go with it.
void die_with(mp::Process& owner, Words& words, Words& servers) {
  owner.start();
  const auto server = mp::os::open_pidfd(static_cast<pid_t>(servers.await(0)));
  const auto worker = mp::os::open_pidfd(static_cast<pid_t>(words[0].load()));
  REQUIRE(server);
  REQUIRE(worker);
  owner.kill();
  CHECK(test::readable(server.get(), 10s));
  CHECK(test::readable(worker.get(), 10s));
}

}  // namespace

TEST_CASE("tethered children die with their server, and the server with its owner") {
  Words words, servers;
  mp::Process owner([&] {
    Server server = Server::zygote("zygote");
    Ref record = server.launch(reports_and_sleeps, order(words, 0), {.name = "w"});
    words.await(0);
    servers[0] = server.pid();
    for (;;) ::pause();
  });
  die_with(owner, words, servers);
}

TEST_CASE("a killed server takes its tethered children along, and says so") {
  Words words;
  Server server = Server::zygote("zygote");
  Ref tethered = server.launch(reports_and_sleeps, order(words, 0), {.name = "w"});
  REQUIRE(words.await(0) > 0);
  auto fd = mp::process::pidfd_of(about(tethered));
  ::kill(server.pid(), SIGKILL);
  CHECK(test::readable(server.sentinel(), 1s));
  CHECK_FALSE(server.usable());
  CHECK(test::readable(fd.get(), 1s));
  int code = mp::process::conclude(about(tethered), fd.get());
  CHECK((code == -SIGKILL || code == 255));
}

TEST_CASE("a server's heir outlives it and forks as it did, and so on") {
  Words words;
  local_value = 42;
  Server server = Server::zygote("zygote");
  local_value = 43;
  for (int death = 0; death < 3; ++death) {
    CAPTURE(death);
    Ref heir = server.launch_heir({.name = "heir"});
    REQUIRE(mp::process::await_started(heir, Deadline(10s)) == Started::running);
    const pid_t before = server.pid();
    ::kill(before, SIGKILL);
    REQUIRE(test::readable(server.sentinel(), 10s));
    server = Server::succeed(heir);
    REQUIRE(server.usable());
    CHECK(server.pid() != before);
    CHECK(end_of(server.launch(reports_and_exits, order(words, 5), {.name = "w"})) == 5);
    CHECK(words[1] == 42);
  }
  const auto last = mp::os::open_pidfd(server.pid());
  REQUIRE(last);
  server.shutdown();
  CHECK(mp::os::ended(last.get()));
}

TEST_CASE("an heir and its tethered children die with the owner") {
  Words words, servers;
  mp::Process owner([&] {
    Server server = Server::zygote("zygote");
    Ref heir = server.launch_heir({.name = "heir"});
    if (mp::process::await_started(heir, Deadline(10s)) != Started::running) ::_exit(1);
    ::kill(server.pid(), SIGKILL);
    if (!test::readable(server.sentinel(), 10s)) ::_exit(2);
    Server next = Server::succeed(heir);
    Ref record = next.launch(reports_and_sleeps, order(words, 0), {.name = "w"});
    words.await(0);
    servers[0] = next.pid();
    for (;;) ::pause();
  });
  die_with(owner, words, servers);
}

TEST_CASE("an heir that never began, or has ended, is no server") {
  Words words;
  Server server = Server::zygote("zygote");
  const Ref dead = server.launch_heir({.name = "dead"});
  REQUIRE(mp::process::await_started(dead, Deadline(10s)) == Started::running);
  {
    const auto fd = mp::process::pidfd_of(about(dead));
    ::kill(about(dead).pid, SIGKILL);
    REQUIRE(test::readable(fd.get(), 10s));
  }
  CHECK_FALSE(Server::succeed(dead).usable());

  ::kill(server.pid(), SIGSTOP);
  const Ref late = server.launch_heir({.name = "late"});
  ::kill(server.pid(), SIGKILL);
  REQUIRE(test::readable(server.sentinel(), 10s));
  CHECK_FALSE(Server::succeed(late).usable());
  CHECK(about(late).pid == 0);
  CHECK_THROWS_AS(server.launch_heir({.name = "of the dead"}), mp::Error);

  forks_allowed = 1;
  mp::os::fault_hook = refuse_fork;
  Server barren = Server::zygote("zygote");
  mp::os::fault_hook = nullptr;
  const Ref refused = barren.launch_heir({.name = "refused"});
  REQUIRE(mp::process::await_started(refused, Deadline(10s)) == Started::failed);
  CHECK_FALSE(Server::succeed(refused).usable());
}

TEST_CASE("a request that its server cannot serve any more is lost, not left waiting") {
  Words words;
  Server server = Server::zygote("zygote");
  REQUIRE(end_of(server.launch(reports_and_exits, order(words, 0), {})) == 0);
  ::kill(server.pid(), SIGSTOP);
  Ref late = server.launch(reports_and_exits, order(words, 0), {.name = "late"});
  Ref unwanted = server.launch(reports_and_exits, order(words, 0), {.name = "unwanted"});
  CHECK(mp::process::await_started(late, Deadline(30ms)) == Started::not_yet);
  CHECK(mp::process::give_up(about(unwanted)));
  words[0] = 0;
  ::kill(server.pid(), SIGKILL);
  CHECK(mp::process::await_started(late, Deadline(1s)) == Started::lost);
  CHECK(mp::process::await_started(unwanted, Deadline(1s)) == Started::lost);
  server.shutdown();
  CHECK(words[0] == 0);
}

TEST_CASE("a request that was given up never runs") {
  Words words;
  Server server = Server::zygote("zygote");
  ::kill(server.pid(), SIGSTOP);
  Ref unwanted = server.launch(reports_and_exits, order(words, 0), {.name = "unwanted"});
  CHECK(mp::process::give_up(about(unwanted)));
  Ref wanted = server.launch(reports_and_exits, order(words, 9), {.name = "wanted"});
  ::kill(server.pid(), SIGCONT);
  CHECK(end_of(wanted) == 9);
  CHECK(about(unwanted).pid == 0);
  CHECK_FALSE(mp::process::give_up(about(wanted)));
}

TEST_CASE("requests that a killed server had not seen leave nothing behind, given up or not") {
  Words words;
  auto round = [&] {
    Server server = Server::zygote("server");
    ::kill(server.pid(), SIGSTOP);
    std::vector<Ref> records;
    for (int i = 0; i < 20; ++i) records.push_back(server.launch(&reports_and_exits, order(words, 1), {}));
    for (int i = 0; i < 10; ++i) CHECK(mp::process::give_up(about(records[static_cast<std::size_t>(i)])));
    ::kill(server.pid(), SIGKILL);
    server.shutdown();
    for (const Ref& record : records) CHECK_FALSE(mp::memory::alive(about(record).tag));
  };
  round();
  const std::size_t before = mp::memory::bytes_in_use();
  round();
  CHECK(mp::memory::bytes_in_use() <= before);
}

TEST_CASE("a fork that fails in the server is told with its errno") {
  Words words;
  forks_allowed = 1;
  mp::os::fault_hook = refuse_fork;
  Server server = Server::zygote("zygote");  // has the hook, and no fork left
  CHECK_THROWS_AS(Server::zygote("refused"), mp::OSError);
  mp::os::fault_hook = nullptr;
  Ref record = server.launch(reports_and_exits, order(words, 0), {.name = "refused"});
  CHECK(mp::process::await_started(record, Deadline(10s)) == Started::failed);
  CHECK(mp::process::status_of(about(record)).code() == EAGAIN);
}

TEST_CASE("a fork child of the owner has no server") {
  Words words;
  Server server = Server::zygote("zygote");
  mp::Process p([&] {
    bool refused = false;
    try {
      server.launch(reports_and_exits, order(words, 0), {});
    } catch (const mp::Error&) {
      refused = true;
    }
    bool unusable = !server.usable();
    server.shutdown();
    ::_exit(refused && unusable ? 0 : 1);
  });
  p.start();
  p.join();
  CHECK(p.exitcode() == 0);
  CHECK(server.usable());
}
