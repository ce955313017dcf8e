#include <mp/os/shm.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include <mp/errors.hpp>
#include <mp/os/call.hpp>

#include "child.hpp"

namespace {

constexpr std::size_t kMiB = 1 << 20;

std::size_t blocks_of(int fd) {
  struct stat info;
  ::fstat(fd, &info);
  return static_cast<std::size_t>(info.st_blocks) * 512;
}

bool there_is(const std::string& name) { return std::filesystem::exists("/dev/shm/" + name); }

template <mp::os::Call which, int error>
int refuse(mp::os::Call c) noexcept {
  return c == which ? error : 0;
}

// Sparse, close-on-exec, and commits and gives back memory.
void check_object(int fd) {
  struct stat info;
  CHECK(::fstat(fd, &info) == 0);
  CHECK(info.st_size == static_cast<off_t>(64 * kMiB));
  CHECK(blocks_of(fd) == 0);
  CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  CHECK(mp::os::commit(fd, 8 * kMiB, 2 * kMiB) == 0);
  CHECK(blocks_of(fd) == 2 * kMiB);
  void* place = ::mmap(nullptr, 64 * kMiB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  REQUIRE(place != MAP_FAILED);
  auto* bytes = static_cast<unsigned char*>(place) + 8 * kMiB;
  std::fill(bytes, bytes + 2 * kMiB, static_cast<unsigned char>(1));
  mp::os::decommit(fd, 8 * kMiB, 2 * kMiB);
  CHECK(blocks_of(fd) == 0);
  CHECK(mp::os::commit(fd, 8 * kMiB, kMiB) == 0);
  CHECK(std::all_of(bytes, bytes + kMiB, [](unsigned char c) { return c == 0; }));
  ::munmap(place, 64 * kMiB);
}

}  // namespace

TEST_CASE("anonymous shared memory is sparse, has no name, and is committed and given back by the page") {
  auto fd = mp::os::create_shared_memory(64 * kMiB);
  struct stat info;
  CHECK(::fstat(fd.get(), &info) == 0);
  CHECK(info.st_nlink == 0);
  check_object(fd.get());
}

TEST_CASE("where /dev/shm refuses, shared memory is a memfd") {
  mp::os::fault_hook = refuse<mp::os::Call::shm_open, EACCES>;
  auto fd = mp::os::create_shared_memory(64 * kMiB);
  mp::os::fault_hook = nullptr;
  check_object(fd.get());
}

TEST_CASE("where there is no shared memory at all, the error says so") {
  mp::os::fault_hook = [](mp::os::Call c) noexcept {
    return c == mp::os::Call::shm_open || c == mp::os::Call::memfd_create ? EMFILE : 0;
  };
  CHECK_THROWS_AS(mp::os::create_shared_memory(kMiB), mp::OSError);
  mp::os::fault_hook = refuse<mp::os::Call::ftruncate, ENOMEM>;
  CHECK_THROWS_AS(mp::os::create_shared_memory(kMiB), mp::OSError);
  mp::os::fault_hook = nullptr;
}

TEST_CASE("commit says why it cannot, and goes on after a signal") {
  auto fd = mp::os::create_shared_memory(kMiB);
  mp::os::fault_hook = refuse<mp::os::Call::fallocate, ENOSPC>;
  CHECK(mp::os::commit(fd.get(), 0, 4096) == ENOSPC);
  static int interruptions;
  interruptions = 3;
  mp::os::fault_hook = [](mp::os::Call c) noexcept {
    return c == mp::os::Call::fallocate && interruptions-- > 0 ? EINTR : 0;
  };
  CHECK(mp::os::commit(fd.get(), 0, 4096) == 0);
  mp::os::fault_hook = nullptr;
}

TEST_CASE("named shared memory is there under its name, complete, until it is unlinked") {
  const std::string name = "mp_test_os_" + std::to_string(::getpid());
  CHECK_FALSE(there_is(name));
  auto made = mp::os::create_named_shared_memory(name, 3 * kMiB);
  REQUIRE(made);
  CHECK(there_is(name));
  CHECK(blocks_of(made.get()) == 3 * kMiB);
  CHECK(mp::os::size_of(made.get()) == static_cast<long long>(3 * kMiB));
  CHECK_FALSE(mp::os::create_named_shared_memory(name, 1));
  CHECK(errno == EEXIST);
  auto opened = mp::os::open_named_shared_memory(name);
  REQUIRE(opened);
  CHECK(mp::os::size_of(opened.get()) == static_cast<long long>(3 * kMiB));
  struct stat info;
  ::fstat(opened.get(), &info);
  CHECK((info.st_mode & 0777) == 0600);
  CHECK(mp::os::unlink_named_shared_memory(name) == 0);
  CHECK(mp::os::unlink_named_shared_memory(name) == ENOENT);
  CHECK_FALSE(mp::os::open_named_shared_memory(name));
  CHECK(errno == ENOENT);
  CHECK(mp::os::shared_memory_space().allowed > 0);
}

TEST_CASE("of many who create one name, one succeeds") {
  const std::string name = "mp_test_race_" + std::to_string(::getpid());
  test::Shared<std::atomic<int>> made(0), refused(0);
  auto team = test::children(6, [&](int) {
    auto fd = mp::os::create_named_shared_memory(name, 4096);
    if (fd) ++*made;
    else if (errno == EEXIST) ++*refused;
  });
  CHECK(test::all_succeed(team));
  CHECK(*made == 1);
  CHECK(*refused == 5);
  CHECK(mp::os::unlink_named_shared_memory(name) == 0);
}
