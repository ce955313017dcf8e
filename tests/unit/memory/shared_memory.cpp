#include <mp/memory/shared_memory.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string>

#include <mp/errors.hpp>
#include <mp/os/call.hpp>

#include "child.hpp"

using mp::SharedMemory;

namespace {

// Unlinks at the end of a test, whatever became of it.
struct Named {
  SharedMemory memory;
  ~Named() {
    try {
      memory.unlink();
    } catch (const mp::OSError&) {}
  }
};

std::errc reason(auto f) {
  try {
    f();
  } catch (const mp::OSError& e) {
    return static_cast<std::errc>(e.code().value());
  }
  return std::errc();
}

int refused(mp::os::Call which, int error, auto f) {
  static mp::os::Call failing;
  static int with;
  failing = which;
  with = error;
  mp::os::fault_hook = [](mp::os::Call c) noexcept { return c == failing ? with : 0; };
  struct Off {
    ~Off() { mp::os::fault_hook = nullptr; }
  } off;
  return f();
}

}  // namespace

TEST_CASE("new shared memory has the size that was asked for, is zero, and can be attached to by its name") {
  Named made{SharedMemory::create(10'000)};
  CHECK(made.memory.size() == 10'000);
  CHECK(made.memory.buf().size() == 10'000);
  CHECK(made.memory.name().starts_with("mp_"));
  CHECK(std::ranges::all_of(made.memory.buf(), [](std::byte b) { return b == std::byte(0); }));

  SharedMemory attached(made.memory.name());
  CHECK(attached.size() == 10'000);
  CHECK(attached.buf().data() != made.memory.buf().data());
  attached.buf()[9'999] = std::byte(7);
  CHECK(made.memory.buf()[9'999] == std::byte(7));
  CHECK(SharedMemory("/" + made.memory.name(), false, 99).size() ==
        10'000);  // as in Python, the size is not for attaching
}

TEST_CASE("processes see each other's bytes, by name and by inheritance") {
  Named made{SharedMemory::create(64)};
  auto bytes = made.memory.buf();
  CHECK(test::in_child([&] {
          SharedMemory attached(made.memory.name());
          if (attached.buf()[0] != std::byte(0)) return 1;
          attached.buf()[0] = std::byte(1);
          made.memory.buf()[1] = std::byte(2);
          return 0;
        }) == 0);
  CHECK(bytes[0] == std::byte(1));
  CHECK(bytes[1] == std::byte(2));
}

TEST_CASE("what cannot be created or attached is refused with the reason") {
  Named made{SharedMemory::create(1)};
  const std::string name = made.memory.name();
  CHECK(reason([&] { SharedMemory(name, true, 1); }) == std::errc::file_exists);
  CHECK(reason([&] { SharedMemory(name + "_missing"); }) == std::errc::no_such_file_or_directory);
  CHECK_THROWS_AS(SharedMemory(std::string(300, 'x'), true, 1), mp::OSError);
  CHECK_THROWS_AS(SharedMemory{std::string(300, 'x')}, mp::OSError);
  CHECK_THROWS_AS(SharedMemory(), mp::ValueError);
  CHECK_THROWS_AS(SharedMemory("mp_test_size", true, 0), mp::ValueError);
  CHECK_THROWS_AS(SharedMemory::create(0), mp::ValueError);
  for (std::string bad :
       {std::string(), std::string("/"), std::string("a/b"), std::string(".."), std::string("a\0b", 3)}) {
    CHECK_THROWS_AS(SharedMemory(bad, true, 1), mp::ValueError);
    CHECK_THROWS_AS(SharedMemory{bad}, mp::ValueError);
  }
}

TEST_CASE("full memory is an exception at creation, which leaves no name") {
  const std::string name = "mp_test_full_" + std::to_string(::getpid());
  refused(mp::os::Call::fallocate, ENOSPC, [&] {
    CHECK_THROWS_AS(SharedMemory(name, true, 4096), mp::SharedMemoryFull);
    return 0;
  });
  CHECK(reason([&] { SharedMemory{name}; }) == std::errc::no_such_file_or_directory);
  Named made{SharedMemory(name, true, 4096)};
  CHECK(made.memory.size() == 4096);
  // And really: more than there is.
  try {
    SharedMemory(name + "_huge", true, std::size_t{1} << 50);
    FAIL("a PiB was granted");
  } catch (const mp::SharedMemoryFull& e) {
    CHECK(e.asked() == std::size_t{1} << 50);
    CHECK(e.allowed() > 0);
  } catch (const mp::OSError& e) {
    CHECK(e.code() == std::errc::file_too_large);
  }
}

TEST_CASE("where the kernel has no nameless files the name comes first, and goes again if memory is full") {
  static int asked;
  asked = 0;
  mp::os::fault_hook = [](mp::os::Call c) noexcept {
    return c == mp::os::Call::shm_open && asked++ == 0 ? EOPNOTSUPP : 0;
  };
  {
    Named made{SharedMemory::create(100)};
    CHECK(made.memory.size() == 100);
    CHECK(SharedMemory(made.memory.name()).size() == 100);
  }
  asked = 0;
  mp::os::fault_hook = [](mp::os::Call c) noexcept {
    if (c == mp::os::Call::fallocate) return ENOSPC;
    return c == mp::os::Call::shm_open && asked++ == 0 ? EOPNOTSUPP : 0;
  };
  const std::string name = "mp_test_first_" + std::to_string(::getpid());
  CHECK_THROWS_AS(SharedMemory(name, true, 100), mp::SharedMemoryFull);
  mp::os::fault_hook = nullptr;
  CHECK(reason([&] { SharedMemory{name}; }) == std::errc::no_such_file_or_directory);
}

TEST_CASE("unlink takes the name away once, and leaves the bytes to those who have them") {
  SharedMemory made = SharedMemory::create(8);
  made.buf()[0] = std::byte(5);
  SharedMemory attached(made.name());
  made.unlink();
  CHECK(reason([&] { made.unlink(); }) == std::errc::no_such_file_or_directory);
  CHECK(reason([&] { SharedMemory{made.name()}; }) == std::errc::no_such_file_or_directory);
  CHECK(attached.buf()[0] == std::byte(5));
}

TEST_CASE("close gives up this handle's share, views and copies keep the bytes") {
  Named made{SharedMemory::create(16)};
  SharedMemory copy = made.memory;
  auto view = made.memory.view();
  view[3] = std::byte(9);
  made.memory.close();
  made.memory.close();
  CHECK(made.memory.buf().empty());
  CHECK(made.memory.size() == 16);
  CHECK_THROWS_AS(made.memory.view(), mp::ValueError);
  CHECK(copy.buf()[3] == std::byte(9));
  copy.close();
  CHECK(view[3] == std::byte(9));
  CHECK(SharedMemory(made.memory.name()).buf()[3] == std::byte(9));
}

TEST_CASE("the maker's and the attached mapping are seen in /proc under the object's name") {
  Named made{SharedMemory::create(4096)};
  SharedMemory attached(made.memory.name());
  std::ifstream maps("/proc/self/maps");
  int seen = 0;
  for (std::string line; std::getline(maps, line);) seen += line.ends_with("/dev/shm/" + made.memory.name());
  CHECK(seen == 2);
}

TEST_CASE("attaching never owns: the object outlives those who attached and the one that made it") {
  std::string name = "mp_test_own_" + std::to_string(::getpid());
  CHECK(test::in_child([&] {
          SharedMemory made(name, true, 32);
          std::memcpy(made.buf().data(), "here", 4);
        }) == 0);
  CHECK(test::in_child([&] { SharedMemory attached(name); }) == 0);
  Named again{SharedMemory(name)};
  CHECK(std::memcmp(again.memory.buf().data(), "here", 4) == 0);
}

TEST_CASE("a killed creator leaves a complete object or none") {
  const std::string name = "mp_test_kill_" + std::to_string(::getpid());
  int complete = 0;
  for (int i = 0; i < 60; ++i) {
    test::Shared<std::atomic<bool>> ready(false);
    test::Child creator([&] {
      *ready = true;
      SharedMemory made(name, true, 1 << 20);
      for (;;) ::pause();
    });
    while (!*ready) {}
    std::this_thread::sleep_for(std::chrono::microseconds(i * 15));  // the instant is the subject
    creator.kill();
    try {
      Named there{SharedMemory(name)};
      CHECK(there.memory.size() == 1 << 20);
      ++complete;
    } catch (const mp::OSError& e) {
      CHECK(e.code() == std::errc::no_such_file_or_directory);
    }
  }
  MESSAGE("complete after " << complete << " of 60 kills");
}
