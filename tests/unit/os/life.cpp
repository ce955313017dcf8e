#include <mp/os/life.hpp>

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/syscall.h>

#include <cerrno>

#include <mp/errors.hpp>
#include <mp/os/call.hpp>

#include "child.hpp"

using namespace std::chrono_literals;
using mp::os::Life;

namespace {

test::Child sleeper() {
  return test::Child([] {
    for (;;) ::pause();
  });
}

// Of a process that has just begun.
Life life_of(const test::Child& child) { return {child.pid(), mp::os::start_time_of(child.pid())}; }

bool ends(int pidfd) {
  return test::eventually([&] { return mp::os::ended(pidfd); });
}

template <int error>
int refuse_pidfd(mp::os::Call c) noexcept {
  return c == mp::os::Call::pidfd_open ? error : 0;
}

}  // namespace

TEST_CASE("a process knows its own life, and lives") {
  Life mine = mp::os::this_life();
  CHECK(mine.pid == ::getpid());
  CHECK(mine.seen >= mp::os::start_time_of(::getpid()));
  CHECK(mp::os::alive(mine));
}

TEST_CASE("a process lives until it ends, and is dead as a zombie already") {
  test::Child child = sleeper();
  Life life = life_of(child);
  CHECK(mp::os::alive(life));
  child.signal(SIGKILL);
  CHECK(test::eventually([&] { return !mp::os::alive(life); }));
  CHECK(mp::os::run_state(child.pid()) == 'Z');
  child.wait();
  CHECK_FALSE(mp::os::alive(life));
}

TEST_CASE("a pid that has come back is another life") {
  test::Child child = sleeper();
  Life life = life_of(child);
  CHECK_FALSE(mp::os::alive({life.pid, life.seen - 1}));
  CHECK(mp::os::alive({life.pid, life.seen + 1}));
  CHECK(mp::os::alive({life.pid, 0}));  // when it was seen is not known
  CHECK_FALSE(mp::os::alive({0, 0}));
  CHECK_FALSE(mp::os::alive({-5, 0}));
}

TEST_CASE("life is told without pidfds, too") {
  test::Child child = sleeper();
  Life life = life_of(child);
  for (auto hook : {refuse_pidfd<EMFILE>, refuse_pidfd<ENOSYS>, refuse_pidfd<EPERM>}) {
    mp::os::fault_hook = hook;
    CHECK(mp::os::alive(life));
    CHECK_FALSE(mp::os::alive({life.pid, life.seen - 1}));
    mp::os::fault_hook = nullptr;
  }
  child.signal(SIGKILL);
  CHECK(test::eventually([&] { return mp::os::run_state(child.pid()) == 'Z'; }));
  mp::os::fault_hook = refuse_pidfd<EMFILE>;
  CHECK_FALSE(mp::os::alive(life));
  mp::os::fault_hook = nullptr;
}

TEST_CASE("a pidfd becomes readable when the process ends") {
  test::Child child = sleeper();
  auto fd = mp::os::open_pidfd(child.pid());
  REQUIRE(fd);
  CHECK_FALSE(mp::os::ended(fd.get()));
  child.signal(SIGKILL);
  pollfd p{fd.get(), POLLIN, 0};
  CHECK(::poll(&p, 1, 10'000) == 1);
  CHECK(mp::os::ended(fd.get()));
}

TEST_CASE("a process that is gone has no pidfd, and a kernel that refuses is an error") {
  test::Child child([] {});
  pid_t pid = child.pid();
  child.wait();
  CHECK_FALSE(mp::os::open_pidfd(pid));
  mp::os::fault_hook = refuse_pidfd<EMFILE>;
  try {
    mp::os::open_pidfd(::getpid());
    FAIL("EMFILE went unnoticed");
  } catch (const mp::OSError& e) {
    CHECK(e.code() == std::errc::too_many_files_open);
  }
  mp::os::fault_hook = nullptr;
}

TEST_CASE("how a child ended is its exit code, or minus the signal") {
  for (int code : {0, 1, 77, 255}) {
    test::Child child([code] { return code; });
    auto fd = mp::os::open_pidfd(child.pid());
    CHECK(ends(fd.get()));
    mp::os::Usage used;
    CHECK(mp::os::exit_status(fd.get(), &used) == code);
    CHECK(used.peak_memory > 0);
  }
  for (int signal : {SIGKILL, SIGTERM, SIGABRT}) {
    test::Child child = sleeper();
    auto fd = mp::os::open_pidfd(child.pid());
    child.signal(signal);
    CHECK(ends(fd.get()));
    CHECK(mp::os::exit_status(fd.get()) == -signal);
  }
}

TEST_CASE("how a child ended is right, or not known, where others have reaped it") {
  auto check = [](std::optional<int> status) { return !status || *status == 42; };
  {
    test::Child child([] { return 42; });
    auto fd = mp::os::open_pidfd(child.pid());
    CHECK(child.wait() == 42);
    CHECK(check(mp::os::exit_status(fd.get())));
  }
  CHECK(test::in_child([&] {
          ::signal(SIGCHLD, SIG_IGN);
          test::Shared<std::atomic<bool>> go(false);
          test::Child child([&] {
            while (!*go) ::usleep(100);
            return 42;
          });
          auto fd = mp::os::open_pidfd(child.pid());
          *go = true;
          if (!ends(fd.get())) return 1;
          return check(mp::os::exit_status(fd.get())) ? 0 : 2;
        }) == 0);
}
