// What a family shares is its user's alone, and nothing that anybody else may read says more than there is to see.
#include "family.hpp"

#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "mp/memory/family.hpp"

namespace {

using test::Family;

std::vector<std::string> words(const std::string& text) {
  std::vector<std::string> found;
  std::istringstream in(text);
  for (std::string word; std::getline(in, word, '\0');) found.push_back(word);
  return found;
}

std::string proc(pid_t pid, const char* file) { return "/proc/" + std::to_string(pid) + '/' + file; }

// What the descriptors of a process are open on: "socket:[123]", a path.
std::vector<std::string> descriptors(pid_t pid) {
  std::vector<std::string> targets;
  for (const std::string& fd : Family::entries(proc(pid, "fd"))) {
    char target[4096];
    const ssize_t size = ::readlink((proc(pid, "fd/") + fd).c_str(), target, sizeof target);
    if (size > 0) targets.emplace_back(target, static_cast<std::size_t>(size));
  }
  return targets;
}

bool is_small_number(const std::string& text) {
  return !text.empty() && text.size() <= 10 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

TEST_CASE("the arena is its user's alone and has no name") {
  const Family family;
  struct stat info;
  REQUIRE(::fstat(mp::memory::arena_fd(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0600);
  CHECK(info.st_nlink == 0);
  CHECK(info.st_uid == ::geteuid());
  CHECK((::fcntl(mp::memory::arena_fd(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("named shared memory is its user's alone, whatever the umask is, and its name cannot be guessed") {
  const mode_t before = ::umask(0);
  mp::SharedMemory one = mp::SharedMemory::create(1), other = mp::SharedMemory::create(1);
  ::umask(before);
  struct stat info;
  REQUIRE(::stat(("/dev/shm/" + one.name()).c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0600);
  CHECK(info.st_uid == ::geteuid());
  CHECK(one.name().size() == std::string("mp_0123456789abcdef").size());
  CHECK(one.name() != other.name());
  CHECK_THROWS_AS(mp::SharedMemory(one.name(), true, 1), mp::OSError);  // one that is there is not taken over
  one.unlink();
  other.unlink();
}

TEST_CASE("no process of a family has a socket, or a file in /dev/shm that has a name") {
  const auto given = descriptors(::getpid());
  const std::set<std::string> before(given.begin(), given.end());
  const Family family;
  const auto pids = Family::pids();
  CHECK(pids.size() >= 10);  // three children, three workers, their servers, and us
  for (const pid_t pid : pids) {
    for (const std::string& target : descriptors(pid)) {
      if (before.contains(target)) continue;
      INFO("process " << pid << ", " << target);
      CHECK_FALSE(target.starts_with("socket:"));
      if (target.starts_with("/dev/shm/")) CHECK(target.ends_with(" (deleted)"));
    }
  }
}

TEST_CASE("environment and command line of a child hold nothing that its parent's do not") {
  const Family family;
  auto environment = words(Family::contents("/proc/self/environ"));
  std::sort(environment.begin(), environment.end());
  const auto own = words(Family::contents("/proc/self/cmdline"));
  int executed = 0;
  for (const pid_t pid : Family::pids()) {
    INFO("process " << pid);
    auto theirs = words(Family::contents(proc(pid, "environ")));
    std::sort(theirs.begin(), theirs.end());
    CHECK(theirs == environment);
    const auto line = words(Family::contents(proc(pid, "cmdline")));
    if (line == own) continue;
    // Executed afresh: a descriptor's number and a place in the family's table, both counted from 1.
    ++executed;
    REQUIRE(line.size() == 4);
    CHECK(line[1] == "--multiprocessing-fork");
    CHECK(is_small_number(line[2]));
    CHECK(is_small_number(line[3]));
  }
  CHECK(executed >= 4);
}
