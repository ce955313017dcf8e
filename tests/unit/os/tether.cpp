#include <mp/os/tether.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>

#include <thread>

#include <mp/errors.hpp>
#include <mp/os/life.hpp>

#include "child.hpp"

using namespace std::chrono_literals;

namespace {

struct Family {
  std::atomic<pid_t> child{0}, grandchild{0};
  std::atomic<int> holder_end{-1};
  std::atomic<bool> go{false};
};

bool gone(pid_t pid) {
  return test::eventually([&] { return !mp::os::alive({pid, 0}); }, 5s);
}

// What a tethered child does: takes hold of its parent and says so.
[[noreturn]] void live_tethered(pid_t parent, int end, std::atomic<pid_t>& told) {
  mp::os::tether_after_fork();
  if (!mp::os::tether_to(parent, end)) ::_exit(3);
  told = ::getpid();
  for (;;) ::pause();
}

}  // namespace

TEST_CASE("the tether's end is one and the same, and is closed on exec") {
  int end = mp::os::tether_end();
  CHECK(end >= 0);
  CHECK(mp::os::tether_end() == end);
  CHECK((::fcntl(end, F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("a child dies with its parent, and so does the grandchild") {
  test::Shared<Family> family;
  test::Child parent([&] {
    mp::os::tether_after_fork();
    int end = mp::os::tether_end();
    pid_t me = ::getpid();
    if (::fork() == 0) {
      mp::os::tether_after_fork();
      int own_end = mp::os::tether_end();
      if (!mp::os::tether_to(me, end)) ::_exit(3);
      pid_t child = ::getpid();
      if (::fork() == 0) live_tethered(child, own_end, family->grandchild);
      family->child = child;
      for (;;) ::pause();
    }
    for (;;) ::pause();
  });
  REQUIRE(test::eventually([&] { return family->child != 0 && family->grandchild != 0; }));
  parent.kill();
  CHECK(gone(family->child));
  CHECK(gone(family->grandchild));
}

TEST_CASE("a child outlives the thread that forked it") {
  test::Shared<Family> family;
  test::Child parent([&] {
    mp::os::tether_after_fork();
    int end = mp::os::tether_end();
    pid_t me = ::getpid();
    std::thread([&] {
      if (::fork() == 0) live_tethered(me, end, family->child);
    }).join();
    family->go = true;
    for (;;) ::pause();
  });
  REQUIRE(test::eventually([&] { return family->child != 0 && family->go; }));
  CHECK(mp::os::alive({family->child, 0}));
  parent.kill();
  CHECK(gone(family->child));
}

TEST_CASE("a sibling that is forked later does not keep a child alive") {
  test::Shared<Family> family;
  test::Shared<std::atomic<pid_t>> sibling(0);
  test::Child parent([&] {
    mp::os::tether_after_fork();
    int end = mp::os::tether_end();
    pid_t me = ::getpid();
    if (::fork() == 0) live_tethered(me, end, family->child);
    while (family->child == 0) ::usleep(100);
    if (::fork() == 0) {
      mp::os::tether_after_fork();
      *sibling = ::getpid();
      for (;;) ::pause();  // lives on
    }
    for (;;) ::pause();
  });
  REQUIRE(test::eventually([&] { return family->child != 0 && *sibling != 0; }));
  parent.kill();
  CHECK(gone(family->child));
  CHECK(mp::os::alive({*sibling, 0}));
  ::kill(*sibling, SIGKILL);
  CHECK(gone(*sibling));
}

TEST_CASE("who is tethered to the dead is told at once") {
  test::Shared<std::atomic<int>> end(-1);
  test::Child holder([&] {
    mp::os::tether_after_fork();
    *end = mp::os::tether_end();
    for (;;) ::pause();
  });
  REQUIRE(test::eventually([&] { return *end >= 0; }));
  pid_t pid = holder.pid();
  CHECK(test::in_child([&] { return mp::os::tether_to(pid, *end) ? 0 : 1; }) == 0);
  holder.signal(SIGKILL);
  REQUIRE(gone(pid));
  CHECK(test::in_child([&] { return mp::os::tether_to(pid, *end) ? 1 : 0; }) == 0);  // a zombie
  holder.wait();
  CHECK(test::in_child([&] { return mp::os::tether_to(pid, *end) ? 1 : 0; }) == 0);
}

// Its descriptors are gone then, and it is no zombie yet: for some 10 ms here, in which the kernel frees its memory file.
TEST_CASE("who is tethered to a holder that is about to be gone is told so") {
  constexpr std::size_t kLarge = 256 << 20;
  test::Shared<std::atomic<int>> end(-1);
  test::Child holder([&] {
    mp::os::tether_after_fork();
    const int file = ::memfd_create("large", MFD_CLOEXEC);
    if (file < 0 || ::fallocate(file, 0, 0, kLarge) != 0) ::_exit(3);
    *end = mp::os::tether_end();
    for (;;) ::pause();
  });
  REQUIRE(test::eventually([&] { return *end >= 0; }));
  holder.signal(SIGKILL);
  while (mp::os::alive({holder.pid(), 0})) {
    const int came_to = test::in_child([&] {
      try {
        mp::os::tether_to(holder.pid(), *end);
        return 0;
      } catch (const std::exception& e) {
        std::fprintf(stderr, "%s\n", e.what());
        return 1;
      }
    });
    REQUIRE(came_to != 1);  // but killed, where it took hold before
  }
}
