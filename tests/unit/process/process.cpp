#include "mp/process/process.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <iterator>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "mp/channel/connection.hpp"
#include "mp/errors.hpp"
#include "mp/memory/family.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using mp::memory::Offset;
using test::Fork, test::Forkserver, test::Spawn, test::Words;

namespace {

void nothing() {}
int returns_seven() { return 7; }
void exits(int code) { std::exit(code); }
void ends(int code) { ::_exit(code); }
void throws() { throw std::runtime_error("thrown on purpose by a test"); }
void raises(int signal) { ::raise(signal); }
void sleeps() {
  for (;;) ::pause();
}
void reports_and_sleeps(Offset words) {
  Words::at(words, 0) = ::getpid();
  sleeps();
}
void reports_itself(Offset words, std::string expected_name) {
  Words::at(words, 1) = ::getpid();
  Words::at(words, 2) = mp::parent_process().pid();
  Words::at(words, 3) = mp::current_process().name() == expected_name;
  Words::at(words, 4) = mp::current_process().daemon();
  Words::at(words, 5) = mp::parent_process().is_alive();
  Words::at(words, 6) = mp::parent_process().name() == "MainProcess";
  struct stat in, null;
  Words::at(words, 7) = ::fstat(0, &in) == 0 && ::stat("/dev/null", &null) == 0 && in.st_rdev == null.st_rdev;
}
void sums(std::string text, Offset words) {
  std::int64_t sum = 0;
  for (unsigned char c : text) sum += c;
  Words::at(words, 0) = sum;
}
void starts_another(int depth, int method, Offset words) {
  Words::at(words, depth) = ::getpid();
  if (depth == 0) return;
  mp::Process child({.context = static_cast<mp::StartMethod>(method)}, starts_another, depth - 1, method, words);
  child.start();
  child.join();
  if (child.exitcode() != 0) std::exit(1);
}
void starts_a_sleeper_and_ends(Offset words) {
  // A plain fork(2): nobody joins it.
  if (::fork() == 0) reports_and_sleeps(words);
}
void watches_its_parent(Offset words) {
  mp::ProcessHandle parent = mp::parent_process();
  Words::at(words, 1) = parent.join(0s) ? 1 : 2;
  Words::at(words, 2) = parent.join(10s) ? 1 : 2;
  Words::at(words, 3) = parent.is_alive() ? 1 : 2;
}
void starts_a_watcher_and_dies(int method, Offset words) {
  mp::Process watcher({.context = static_cast<mp::StartMethod>(method)}, watches_its_parent, words);
  watcher.start();
  while (Words::at(words, 1) == 0) std::this_thread::sleep_for(1ms);
  ::kill(::getpid(), SIGKILL);
}
void answers_late(mp::Connection there) {
  ::usleep(100'000);  // later than the parent's first look
  there.send(42);
}
void registers_a_handler(Offset words) {
  static Offset where;
  where = words;
  std::atexit([] { Words::at(where, 0) = 1; });
}

std::optional<int> code_of(mp::Process&& p) {
  p.start();
  p.join();
  return p.exitcode();
}

}  // namespace

TEST_CASE_TEMPLATE("an exit code says how the process ended", M, Fork, Spawn, Forkserver) {
  mp::Context context = M::method;
  CHECK(code_of(context.Process(nothing)) == 0);
  CHECK(code_of(context.Process(returns_seven)) == 0);  // as in Python, the result is nobody's
  CHECK(code_of(context.Process(exits, 7)) == 7);
  CHECK(code_of(context.Process(exits, 256)) == 0);
  CHECK(code_of(context.Process(exits, -1)) == 255);
  CHECK(code_of(context.Process(ends, 9)) == 9);
  CHECK(code_of(context.Process(throws)) == 1);
  CHECK(code_of(context.Process(raises, SIGABRT)) == -SIGABRT);
  CHECK(code_of(context.Process(raises, SIGKILL)) == -SIGKILL);
  CHECK(code_of(context.Process(raises, SIGUSR1)) == -SIGUSR1);
}

TEST_CASE_TEMPLATE("a process goes through its states in order", M, Fork, Spawn, Forkserver) {
  Words words;
  mp::Process p({.name = "Anna", .daemon = true, .context = M::method}, reports_itself, words.offset(), "Anna");
  CHECK(p.name() == "Anna");
  CHECK(p.pid() == 0);
  CHECK_FALSE(p.is_alive());
  CHECK_FALSE(p.exitcode());
  CHECK_THROWS_AS(p.sentinel(), mp::ValueError);
  CHECK_THROWS_AS(p.join(), mp::ValueError);
  CHECK_THROWS_AS(p.terminate(), mp::ValueError);
  CHECK(p.repr() == "<Process name='Anna' parent=" + std::to_string(::getpid()) + " initial daemon>");
  p.start();
  CHECK_THROWS_AS(p.start(), mp::ValueError);
  CHECK_THROWS_AS(p.set_daemon(false), mp::ValueError);
  CHECK(p.join());
  CHECK(p.join(-1s));
  CHECK(p.exitcode() == 0);
  CHECK_FALSE(p.is_alive());
  CHECK(words[1] == p.pid());
  CHECK(p.ident() == p.pid());
  CHECK(words[2] == ::getpid());
  for (int i = 3; i <= 7; ++i) CHECK(words[i] == 1);
}

TEST_CASE_TEMPLATE("join gives up after its timeout, and terminate, kill and interrupt end the process", M, Fork, Spawn,
                   Forkserver) {
  Words words;
  for (int signal : {SIGTERM, SIGKILL, SIGINT}) {
    words[0] = 0;
    mp::Process p({.context = M::method}, reports_and_sleeps, words.offset());
    p.start();
    REQUIRE(words.await(0) == p.pid());
    CHECK_FALSE(p.join(0s));
    CHECK_FALSE(p.join(-1s));
    CHECK_FALSE(p.join(10ms));
    CHECK(p.is_alive());
    CHECK_FALSE(p.exitcode());
    CHECK_FALSE(test::readable(p.sentinel(), 0ms));
    if (signal == SIGTERM) p.terminate();
    if (signal == SIGKILL) p.kill();
    if (signal == SIGINT) p.interrupt();
    CHECK(test::readable(p.sentinel(), 10s));
    CHECK(p.join());
    CHECK(p.exitcode() == -signal);
    p.kill();  // nobody is there any more
    CHECK(p.exitcode() == -signal);
  }
}

TEST_CASE_TEMPLATE("active_children has exactly those that live", M, Fork, Spawn, Forkserver) {
  CHECK(mp::active_children().empty());
  Words words;
  mp::Process p({.context = M::method}, reports_and_sleeps, words.offset());
  p.start();
  REQUIRE(mp::active_children().size() == 1);
  CHECK(mp::active_children()[0].pid() == p.pid());
  CHECK(mp::active_children()[0] == static_cast<mp::ProcessHandle&>(p));
  mp::active_children()[0].kill();
  p.join();
  CHECK(mp::active_children().empty());
}

TEST_CASE_TEMPLATE("close releases a process that has ended, and refuses one that runs", M, Fork, Spawn, Forkserver) {
  Words words;
  mp::Process p({.context = M::method}, reports_and_sleeps, words.offset());
  p.start();
  CHECK_THROWS_AS(p.close(), mp::ValueError);
  p.kill();
  p.join();
  p.close();
  p.close();
  CHECK_THROWS_AS(p.is_alive(), mp::ValueError);
  CHECK_THROWS_AS(p.join(), mp::ValueError);
  CHECK_THROWS_AS(p.terminate(), mp::ValueError);
  CHECK_THROWS_AS(p.exitcode(), mp::ValueError);
  CHECK(p.repr().find("closed") != std::string::npos);
}

TEST_CASE_TEMPLATE("processes start processes, and each is named after its ancestors", M, Fork, Spawn, Forkserver) {
  Words words;
  mp::Process p({.context = M::method}, starts_another, 3, static_cast<int>(M::method), words.offset());
  p.start();
  p.join();
  CHECK(p.exitcode() == 0);
  std::set<std::int64_t> pids;
  for (int i = 0; i <= 3; ++i) pids.insert(words[i]);
  CHECK(pids.size() == 4);
  CHECK_FALSE(pids.contains(0));
}

TEST_CASE("default names count the children of each process") {
  mp::Process a(nothing), b(nothing);
  auto number = [](const std::string& name) { return std::stoi(name.substr(name.rfind('-') + 1)); };
  CHECK(number(b.name()) == number(a.name()) + 1);
  CHECK(a.name() == "Process-" + std::to_string(number(a.name())));
  mp::Process p([expected = a.name()] {
    mp::Process inner(nothing);
    // This process is the third of the three made here; inner is its first.
    std::string prefix = mp::current_process().name();
    std::exit(inner.name() == prefix + ":1" ? 0 : 1);
  });
  p.start();
  p.join();
  CHECK(p.exitcode() == 0);
}

TEST_CASE("a child of the program's own fork(2) is called what its parent is, and renames only itself") {
  Words words;
  mp::Process p({.name = "Paul"}, [&words] {
    if (pid_t copy = ::fork(); copy != 0) {
      ::waitpid(copy, nullptr, 0);
      words[2] = mp::current_process().name() == "Paul";
      return;
    }
    words[0] = mp::current_process().name() == "Paul" && mp::parent_process().name() == "MainProcess";
    mp::current_process().set_name("Peter");
    words[1] = mp::current_process().name() == "Peter";
    ::_exit(0);
  });
  p.start();
  p.join();
  for (int i = 0; i <= 2; ++i) CHECK(words[i] == 1);
}

TEST_CASE_TEMPLATE("a payload of a mebibyte arrives, and start does not wait for its reader", M, Spawn, Forkserver) {
  Words words;
  std::string text(1 << 20, 'x');
  std::size_t before = mp::memory::bytes_in_use();
  {
    mp::Process p({.context = M::method}, sums, text, words.offset());
    p.start();
    p.join();
    CHECK(p.exitcode() == 0);
  }
  CHECK(words[0] == std::int64_t{'x'} << 20);
  // Slabs of small blocks may have grown; the payload itself is gone.
  CHECK(mp::memory::bytes_in_use() < before + (1 << 20));
}

TEST_CASE_TEMPLATE("the sentinel is readable at the death, whatever descendants live", M, Fork, Spawn, Forkserver) {
  Words words;
  mp::Process p({.context = M::method}, starts_a_sleeper_and_ends, words.offset());
  p.start();
  CHECK(test::readable(p.sentinel(), 10s));
  CHECK(p.join(10s));
  CHECK(p.exitcode() == 0);
  auto grandchild = static_cast<pid_t>(words.await(0));
  REQUIRE(grandchild > 0);
  CHECK(::kill(grandchild, SIGKILL) == 0);
}

TEST_CASE_TEMPLATE("a child sees its parent die", M, Fork, Spawn, Forkserver) {
  Words words;
  mp::Process p({.context = M::method}, starts_a_watcher_and_dies, static_cast<int>(M::method), words.offset());
  p.start();
  p.join();
  CHECK(p.exitcode() == -SIGKILL);
  CHECK(words.await(3) == 2);
  CHECK(words[1] == 2);
  CHECK(words[2] == 1);
}

TEST_CASE_TEMPLATE("exit handlers that a child registered run, those of its parent do not", M, Fork, Spawn,
                   Forkserver) {
  Words words;
  static Offset of_parent;
  static pid_t parent;
  of_parent = words.offset();
  parent = ::getpid();
  std::atexit([] {
    if (::getpid() != parent) Words::at(of_parent, 1) = 1;
  });
  mp::Process p({.context = M::method}, registers_a_handler, words.offset());
  p.start();
  p.join();
  CHECK(words[0] == 1);
  CHECK(words[1] == 0);
  parent = ::getpid();
}

TEST_CASE_TEMPLATE("a connection given to a process is open there from the start", M, Fork, Spawn, Forkserver) {
  auto [here, there] = mp::Pipe();
  mp::Process p({.context = M::method}, answers_late, std::move(there));
  p.start();
  CHECK(here.recv<int>() == 42);  // no end of file, although the parent has no handle of that end any more
  CHECK_THROWS_AS(here.recv<int>(), mp::EOFError);
  p.join();
  CHECK(p.exitcode() == 0);
}

TEST_CASE("a connection moved into what cannot be copied is open in the fork child from the start") {
  auto [here, there] = mp::Pipe();
  mp::Process sibling(sleeps);
  mp::Process p([there = std::move(there), unique = std::make_unique<int>(42)]() mutable {
    ::usleep(100'000);
    there.send(*unique);
  });
  p.start();
  sibling.start();  // it inherits nothing that would hold the end of file back
  CHECK(here.recv<int>() == 42);
  CHECK_THROWS_AS(here.recv<int>(), mp::EOFError);
  sibling.kill();
}

TEST_CASE("fork takes any callable: captured references, objects that cannot be copied") {
  Words words;
  std::vector<int> local{1, 2, 3};
  auto unique = std::make_unique<int>(39);
  mp::Process p([&words, &local, unique = std::move(unique)] { words[0] = *unique + local[2]; });
  p.start();
  p.join();
  CHECK(p.exitcode() == 0);
  CHECK(words[0] == 42);
}

TEST_CASE_TEMPLATE("what cannot be pickled is refused by start, which can be tried again", M, Spawn, Forkserver) {
  mp::Process p({.context = M::method}, [unique = std::make_unique<int>(1)] {});
  CHECK_THROWS_AS(p.start(), mp::PicklingError);
  CHECK_THROWS_AS(p.start(), mp::PicklingError);
  CHECK_FALSE(p.is_alive());
}

TEST_CASE("a class derived from Process overrides run, under fork") {
  struct Mine : mp::Process {
    Words words;
    using mp::Process::Process;
    void run() override { words[0] = 42; }
  };
  Mine p;
  p.start();
  p.join();
  CHECK(p.words[0] == 42);
  Mine spawned({.context = mp::spawn});
  CHECK_THROWS_AS(spawned.start(), mp::ValueError);
}

TEST_CASE("the object lets its function and arguments go when the process has started") {
  auto shared = std::make_shared<int>(1);
  mp::Process p([](std::shared_ptr<int>) {}, shared);
  CHECK(shared.use_count() == 2);
  p.start();
  CHECK(shared.use_count() == 1);
  p.join();
}

TEST_CASE("the destructor joins, or ends a daemon") {
  Words words;
  {
    mp::Process([&words] { words[0] = 1; }).start();
  }
  CHECK(words[0] == 1);
  pid_t pid;
  {
    mp::Process daemon({.daemon = true}, sleeps);
    daemon.start();
    pid = daemon.pid();
  }
  CHECK(::kill(pid, 0) != 0);
  CHECK(mp::active_children().empty());
}

TEST_CASE("a daemon that ignores SIGTERM is killed after a second") {
  Words words;
  auto begin = std::chrono::steady_clock::now();
  {
    mp::Process daemon({.daemon = true}, [&words] {
      ::signal(SIGTERM, SIG_IGN);
      reports_and_sleeps(words.offset());
    });
    daemon.start();
    REQUIRE(words.await(0) != 0);
    begin = std::chrono::steady_clock::now();
  }
  auto took = std::chrono::steady_clock::now() - begin;
  CHECK(took >= 1s);
  CHECK(took < 5s);
}

TEST_CASE("a process can be moved, also in a vector, while it runs") {
  std::vector<mp::Process> team;
  for (int i = 0; i < 5; ++i) team.emplace_back(exits, i).start();
  mp::Process first = std::move(team[0]);
  CHECK_THROWS_AS(team[0].join(), mp::ValueError);
  first.join();
  CHECK(first.exitcode() == 0);
  for (int i = 1; i < 5; ++i) {
    team[static_cast<std::size_t>(i)].join();
    CHECK(team[static_cast<std::size_t>(i)].exitcode() == i);
  }
}

TEST_CASE("output waiting in stdio is written once, and the child's own is written") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  std::fflush(stdout);
  int original = ::dup(1);
  ::dup2(ends[1], 1);
  std::printf("parent ");
  mp::Process p([] { std::printf("child "); });
  p.start();
  p.join();
  std::fflush(stdout);
  ::dup2(original, 1);
  ::close(original);
  ::close(ends[1]);
  char text[64] = {};
  ssize_t n = 0, got;
  while ((got = ::read(ends[0], text + n, sizeof text - 1 - static_cast<std::size_t>(n))) > 0) n += got;
  ::close(ends[0]);
  CHECK(std::string(text) == "parent child ");
}

TEST_CASE(
    "output waiting in a FILE of the program's own is written once, and a child's that it never closes is written") {
  std::FILE* file = std::tmpfile();
  REQUIRE(file != nullptr);
  std::fputs("parent ", file);
  mp::Process p([file] {
    std::fputs("child ", file);
    std::FILE* another = ::fdopen(::dup(::fileno(file)), "w");
    std::fflush(file);
    std::fputs("never closed", another);
  });
  p.start();
  p.join();
  CHECK(p.exitcode() == 0);
  std::fputs(" parent", file);
  std::rewind(file);
  char text[64] = {};
  CHECK(std::fgets(text, sizeof text, file) != nullptr);
  std::fclose(file);
  CHECK(std::string(text) == "parent child never closed parent");
}

TEST_CASE("an uncaught exception is told on stderr under the process's name") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  int original = ::dup(2);
  ::dup2(ends[1], 2);
  mp::Process p({.name = "Berta"}, throws);
  p.start();
  p.join();
  ::dup2(original, 2);
  ::close(original);
  ::close(ends[1]);
  char text[256] = {};
  CHECK(::read(ends[0], text, sizeof text - 1) > 0);
  ::close(ends[0]);
  CHECK(std::string(text) == "Process Berta:\nstd::runtime_error: thrown on purpose by a test\n");
}

TEST_CASE_TEMPLATE("a hundred processes in a row, and fifty at once", M, Fork, Spawn, Forkserver) {
  for (int i = 0; i < 100; ++i) {
    mp::Process p({.context = M::method}, exits, i % 10);
    p.start();
    p.join();
    REQUIRE(p.exitcode() == i % 10);
  }
  std::vector<mp::Process> many;
  for (int i = 0; i < 50; ++i) many.emplace_back(mp::ProcessOptions{.context = M::method}, sleeps).start();
  CHECK(mp::active_children().size() == 50);
  for (auto& p : many) p.terminate();
  for (auto& p : many) p.join();
  for (auto& p : many) CHECK(p.exitcode() == -SIGTERM);
  CHECK(mp::active_children().empty());
}

TEST_CASE("forking while another thread of the program runs is told once") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  int original = ::dup(2);
  ::dup2(ends[1], 2);
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) std::this_thread::sleep_for(1ms);
  });
  code_of(mp::Process(nothing));
  code_of(mp::Process(nothing));
  stop = true;
  other.join();
  ::dup2(original, 2);
  ::close(original);
  ::close(ends[1]);
  char text[1024] = {};
  CHECK(::read(ends[0], text, sizeof text - 1) > 0);
  ::close(ends[0]);
  std::string told(text);
  CHECK(told.find("1 other thread of the program runs") != std::string::npos);
  CHECK(told.find("mp: ", 4) == std::string::npos);
}

TEST_CASE("the current process is alive, no daemon, and has no parent in the first of a family") {
  mp::ProcessHandle me = mp::current_process();
  CHECK(me.name() == "MainProcess");
  CHECK(me.is_alive());
  CHECK_FALSE(me.daemon());
  CHECK(me.pid() == ::getpid());
  CHECK_FALSE(me.exitcode());
  CHECK_THROWS_AS(me.join(), mp::ValueError);
  CHECK_FALSE(mp::parent_process());
}
