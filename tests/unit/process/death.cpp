// Who dies with whom, and what is known of it afterwards.
#include "mp/process/process.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <vector>

#include "mp/channel/connection.hpp"
#include "mp/errors.hpp"
#include "mp/memory/family.hpp"
#include "mp/os/call.hpp"
#include "mp/os/life.hpp"
#include "mp/process/launch.hpp"
#include "mp/process/record.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using mp::memory::Offset;
using test::Fork, test::Forkserver, test::Spawn, test::Words;

namespace {

void exits(int code) { ::_exit(code); }
void sleeps() {
  for (;;) ::pause();
}
void keeps(mp::Connection) { sleeps(); }
// A chain of daemons, each of which writes its pid.
void chain(int depth, int method, Offset words) {
  Words::at(words, depth) = ::getpid();
  if (depth == 0) sleeps();
  mp::Process child({.daemon = true, .context = static_cast<mp::StartMethod>(method)}, chain, depth - 1, method, words);
  child.start();
  sleeps();
}
void starts_a_free_child(int method, Offset words) {
  mp::Process child({.daemon = false, .context = static_cast<mp::StartMethod>(method)}, chain, 0, method, words);
  child.start();
  sleeps();
}
void waits_a_little(Offset words) {
  ::usleep(20'000);
  Words::at(words, 1) = 1;
}
void leaves_daemon_and_child(int method, Offset words) {
  static auto* daemon =
      new mp::Process({.daemon = true, .context = static_cast<mp::StartMethod>(method)}, chain, 0, method, words);
  daemon->start();
  while (Words::at(words, 0) == 0) ::usleep(1000);
  static auto* child = new mp::Process({.context = static_cast<mp::StartMethod>(method)}, waits_a_little, words);
  child->start();
}
void notes_that_it_ran(Offset words, int which) { Words::at(words, which) = 1; }
void waits_then_exits(Offset words, int code) {
  Words::at(words, 0) = ::getpid();
  while (Words::at(words, 1) == 0) ::usleep(1000);
  ::_exit(code);
}
void counts_descriptors(Offset words) {
  std::int64_t count = 0;
  for ([[maybe_unused]] auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  Words::at(words, 0) = count;
}
void dereferences(std::uint64_t address) { *reinterpret_cast<volatile int*>(address) = 1; }
std::uint64_t volatile bottom = 0;
[[gnu::noinline]] std::uint64_t overflows(std::uint64_t depth) {
  volatile char frame[4096];
  frame[depth % sizeof frame] = 1;
  return depth == bottom ? frame[0] : overflows(depth + 1) + static_cast<std::uint64_t>(frame[0]);
}
void overflows_its_stack() { static_cast<void>(overflows(1)); }

int failing_errno = 0;
mp::os::Call failing_call;
int fail(mp::os::Call call) noexcept { return call == failing_call ? failing_errno : 0; }

}  // namespace

TEST_CASE_TEMPLATE("daemons die with a parent that is killed, grandchildren too, within a second", M, Fork, Spawn,
                   Forkserver) {
  Words words;
  mp::Process p({.context = M::method}, chain, 3, static_cast<int>(M::method), words.offset());
  p.start();
  std::vector<mp::os::UniqueFd> below;
  for (int depth : {2, 1, 0}) {
    auto pid = static_cast<pid_t>(words.await(depth));
    REQUIRE(pid > 0);
    below.push_back(mp::os::open_pidfd(pid));
  }
  for (auto& fd : below) CHECK_FALSE(test::readable(fd.get(), 0ms));
  p.kill();
  CHECK(p.join(1s));
  CHECK(p.exitcode() == -SIGKILL);
  for (auto& fd : below) CHECK(test::readable(fd.get(), 1s));
}

TEST_CASE_TEMPLATE("a child that is no daemon survives its parent's death", M, Fork, Spawn, Forkserver) {
  Words words;
  mp::Process p({.context = M::method}, starts_a_free_child, static_cast<int>(M::method), words.offset());
  p.start();
  auto pid = static_cast<pid_t>(words.await(0));
  REQUIRE(pid > 0);
  auto child = mp::os::open_pidfd(pid);
  p.kill();
  p.join();
  CHECK_FALSE(test::readable(child.get(), 50ms));
  ::kill(pid, SIGKILL);
  CHECK(test::readable(child.get(), 1s));
}

TEST_CASE_TEMPLATE("a process that ends by itself terminates its daemons and joins its children", M, Fork, Spawn,
                   Forkserver) {
  Words words;
  mp::Process p({.context = M::method}, leaves_daemon_and_child, static_cast<int>(M::method), words.offset());
  p.start();
  p.join();
  CHECK(p.exitcode() == 0);
  CHECK(words[1] == 1);
  auto daemon = mp::os::open_pidfd(static_cast<pid_t>(words[0]));
  CHECK((!daemon || test::readable(daemon.get(), 0ms)));
}

TEST_CASE_TEMPLATE("exit codes are right where the program ignores SIGCHLD", M, Fork, Spawn, Forkserver) {
  struct sigaction ignore{}, before;
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGCHLD, &ignore, &before);
  for (int code : {0, 5, 255}) {
    mp::Process p({.context = M::method}, exits, code);
    p.start();
    CHECK(p.join(10s));
    CHECK(p.exitcode() == code);
    CHECK_FALSE(p.is_alive());
  }
  mp::Process p({.context = M::method}, sleeps);
  p.start();
  p.terminate();
  CHECK(p.join(10s));
  CHECK(p.exitcode() == -SIGTERM);
  ::sigaction(SIGCHLD, &before, nullptr);
}

TEST_CASE_TEMPLATE("exit codes are right where the program reaps all children itself", M, Fork, Spawn) {
  for (int code : {0, 5, 255}) {
    mp::Process p({.context = M::method}, exits, code);
    p.start();
    while (::waitpid(-1, nullptr, 0) != p.pid()) {}
    CHECK_FALSE(p.is_alive());
    CHECK(p.join());
    CHECK(p.exitcode() == code);
  }
}

TEST_CASE("where the kernel does not tell, the record does") {
  // As on Linux before 6.15, once the program has reaped the child.
  mp::memory::Ref ref = mp::process::make_record();
  auto& record = ref.as<mp::process::Record>();
  auto concluded = [&] {
    record.status = mp::process::make_status(mp::process::Phase::running).raw;
    return mp::process::conclude(record, -1);
  };
  CHECK(concluded() == 255);
  record.told = SIGTERM;
  CHECK(concluded() == -SIGTERM);
  record.crash.signal = SIGSEGV;
  CHECK(concluded() == -SIGSEGV);
  record.own_end = 0x100 | 7;
  CHECK(concluded() == 7);
}

TEST_CASE("a killed forkserver is replaced, and the children it leaves keep their exit codes") {
  Words words;
  mp::Process p({.context = mp::forkserver}, waits_then_exits, words.offset(), 7);
  p.start();
  REQUIRE(words.await(0) == p.pid());
  pid_t server = mp::process::forkserver_pid();
  REQUIRE(server > 0);
  auto gone = mp::os::open_pidfd(server);
  ::kill(server, SIGINT);  // harmless
  ::kill(server, SIGKILL);
  REQUIRE(test::readable(gone.get(), 1s));
  CHECK(p.is_alive());
  mp::Process next({.context = mp::forkserver}, exits, 3);
  next.start();
  next.join();
  CHECK(next.exitcode() == 3);
  CHECK(mp::process::forkserver_pid() != server);
  words[1] = 1;
  CHECK(p.join(10s));
  // PIDFD_GET_INFO tells it, as soon as somebody has reaped it; _exit() by itself leaves no word.
  CHECK((p.exitcode() == 7 || p.exitcode() == 255));
}

TEST_CASE_TEMPLATE("no descriptor of the parent's reaches a child, however many siblings there are", M, Fork, Spawn,
                   Forkserver) {
  Words words;
  auto in_child = [&] {
    words[0] = 0;
    mp::Process p({.context = M::method}, counts_descriptors, words.offset());
    p.start();
    p.join();
    return words[0].load();
  };
  std::int64_t alone = in_child();
  CHECK(alone > 0);
  std::vector<mp::Process> siblings;
  for (int i = 0; i < 10; ++i)
    siblings.emplace_back(mp::ProcessOptions{.daemon = true, .context = M::method}, sleeps).start();
  CHECK(in_child() == alone);
}

TEST_CASE("a crash is described by the process itself") {
  std::vector<mp::Process> dead;
  auto crash_of = [&](mp::StartMethod method, auto f, auto... args) -> mp::process::Record& {
    mp::Process& p = dead.emplace_back(mp::ProcessOptions{.context = method}, f, args...);
    p.start();
    p.join();
    REQUIRE(mp::process::record_of(p));
    return *mp::process::record_of(p);
  };
  if (test::kAddressSanitized) return;  // its handlers are left in place
  for (auto method : mp::get_all_start_methods()) {
    CAPTURE(mp::to_string(method));
    {
      auto& record = crash_of(method, dereferences, std::uint64_t{0x10});
      CHECK(mp::process::status_of(record).code() == -SIGSEGV);
      CHECK(record.crash.signal == SIGSEGV);
      CHECK(record.crash.code == SEGV_MAPERR);
      CHECK(record.crash.address == 0x10);
      CHECK(record.usage.peak_memory > 100'000);
      REQUIRE(record.crash.frame_count > 3);
      CHECK(record.crash.frames[0].module == 0);
      CHECK(std::filesystem::equivalent(record.crash.modules, "/proc/self/exe"));
    }
    {
      auto& record = crash_of(method, overflows_its_stack);
      CHECK(mp::process::status_of(record).code() == -SIGSEGV);
      CHECK(record.crash.signal == SIGSEGV);
      CHECK(record.crash.frame_count == mp::process::Crash::kMaxFrames);
    }
    {
      auto& record = crash_of(method, +[] { std::abort(); });
      CHECK(mp::process::status_of(record).code() == -SIGABRT);
      CHECK(record.crash.signal == SIGABRT);
    }
  }
}

TEST_CASE("an end of a pipe that was given to a process killed before it took it is closed") {
  for (auto method : {mp::spawn, mp::forkserver}) {
    CAPTURE(mp::to_string(method));
    for (int i = 0; i < 5; ++i) {
      auto [here, there] = mp::Pipe();
      mp::Process p({.context = method}, keeps, there);
      p.start();
      p.kill();  // its main has hardly begun
      there.close();
      CHECK_THROWS_AS(here.recv_for<int>(30s), mp::EOFError);
      p.join();
    }
  }
}

TEST_CASE("a process that its parent can have no descriptor of runs nothing") {
  for (auto method : {mp::fork, mp::spawn, mp::forkserver}) {
    CAPTURE(mp::to_string(method));
    Words words;
    auto run = [&](int which) {
      mp::Process p({.context = method}, notes_that_it_ran, words.offset(), which);
      p.start();
      p.join();
    };
    run(0);
    CHECK(words[0] == 1);  // and the forkserver is there
    failing_call = mp::os::Call::pidfd_open;
    failing_errno = EPERM;
    mp::os::fault_hook = fail;
    CHECK_THROWS_AS(run(1), mp::OSError);
    mp::os::fault_hook = nullptr;
    run(2);
    CHECK(words[2] == 1);
    CHECK(words[1] == 0);
  }
}

TEST_CASE("a process that cannot be made is an error of start, which can be tried again") {
  for (auto [method, call, error] : {std::tuple{mp::fork, mp::os::Call::fork, EAGAIN},
                                     {mp::fork, mp::os::Call::fork, ENOMEM},
                                     {mp::spawn, mp::os::Call::spawn, EAGAIN},
                                     {mp::spawn, mp::os::Call::spawn, ENOMEM}}) {
    mp::Process p({.context = method}, exits, 4);
    failing_call = call;
    failing_errno = error;
    mp::os::fault_hook = fail;
    try {
      p.start();
      FAIL("it started");
    } catch (const mp::OSError& e) {
      CHECK(e.code().value() == error);
    }
    mp::os::fault_hook = nullptr;
    CHECK_FALSE(p.is_alive());
    p.start();
    p.join();
    CHECK(p.exitcode() == 4);
  }
}
