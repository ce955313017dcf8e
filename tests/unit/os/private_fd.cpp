#include <mp/os/private_fd.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>

#include <thread>

#include <mp/os/threads.hpp>

#include "child.hpp"

namespace {

mp::os::UniqueFd open_null() { return mp::os::UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }
bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

}  // namespace

TEST_CASE("a descriptor has one owner and is closed once") {
  auto a = open_null();
  int fd = a.get();
  {
    mp::os::UniqueFd b = std::move(a);
    CHECK_FALSE(a);
    CHECK(b.get() == fd);
    CHECK(is_open(fd));
  }
  CHECK_FALSE(is_open(fd));
  auto c = open_null();
  int kept = c.release();
  c.reset();
  CHECK(is_open(kept));
  ::close(kept);
}

TEST_CASE("a private descriptor does not reach a fork child, whose copy of it is an empty shell") {
  mp::os::PrivateFd secret(open_null());
  auto open = open_null();
  int fd = secret.get();
  CHECK(test::in_child([&] {
          mp::os::close_private_fds();
          if (is_open(fd) || !is_open(open.get())) return 1;
          if (secret || secret.get() != -1) return 2;
          auto reused = open_null();  // gets the number
          if (reused.get() != fd) return 3;
          { mp::os::PrivateFd shell = std::move(secret); }
          return is_open(fd) ? 0 : 4;
        }) == 0);
  CHECK(secret.get() == fd);
  CHECK(is_open(fd));
}

TEST_CASE("what is no longer private reaches children") {
  auto fd = open_null();
  mp::os::make_private(fd.get());
  mp::os::make_shared(fd.get());
  CHECK(test::in_child([&] {
          mp::os::close_private_fds();
          return is_open(fd.get()) ? 0 : 1;
        }) == 0);
}

TEST_CASE("moving a private descriptor keeps it open and private") {
  mp::os::PrivateFd a(open_null()), b(open_null());
  int first = a.get(), second = b.get();
  b = std::move(a);
  CHECK(b.get() == first);
  CHECK_FALSE(is_open(second));
  CHECK_FALSE(a);
}

TEST_CASE("the program's threads are told from the library's") {
  unsigned before = mp::os::foreign_threads();
  std::atomic<int> stage{0};
  std::thread own([&] {
    mp::os::LibraryThread mine;
    stage = 1;
    while (stage < 2) std::this_thread::yield();
  });
  while (stage < 1) std::this_thread::yield();
  CHECK(mp::os::foreign_threads() == before);
  std::thread foreign([&] {
    while (stage < 2) std::this_thread::yield();
  });
  CHECK(mp::os::foreign_threads() == before + 1);
  stage = 2;
  own.join();
  foreign.join();
  CHECK(test::eventually([&] { return mp::os::foreign_threads() == before; }));
}
