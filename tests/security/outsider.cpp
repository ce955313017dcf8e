// Another user of the machine against a family: what he tries is refused by the kernel, because all that the family has is its user's
// alone. Changing the user needs root; as another user the test says so and does nothing.
#include "family.hpp"

#include <doctest/doctest.h>

#include <fcntl.h>
#include <grp.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "child.hpp"
#include "mp/memory/family.hpp"

namespace {

using test::Family;

constexpr uid_t kNobody = 65'534;
constexpr int kNotExecuted = 78;

bool become_nobody() {
  return ::setgroups(0, nullptr) == 0 && ::setresgid(kNobody, kNobody, kNobody) == 0 &&
         ::setresuid(kNobody, kNobody, kNobody) == 0;
}

bool may_change_user() {
  return ::geteuid() == 0 && test::in_child([] { return become_nobody() ? 0 : 1; }) == 0;
}

// A copy that another user may execute, wherever the build's folder lies.
int executable_copy(const char* path) {
  const int fd = ::memfd_create("program", 0);  // of this user; open to all by its descriptor
  const std::string program = Family::contents(path);
  if (fd < 0 || program.empty() ||
      ::write(fd, program.data(), program.size()) != static_cast<ssize_t>(program.size()) || ::fchmod(fd, 0755) != 0)
    throw std::runtime_error("cannot copy a program");
  // What is open for writing is not executed.
  const int copy = ::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDONLY | O_CLOEXEC);
  ::close(fd);
  return copy;
}

struct Run {
  int status;
  std::string output;
};

// Executes `program` in a child, after `prepare()` and with `keep` as its only descriptors beside the standard ones.
template <class Prepare>
Run execute(int program, std::vector<std::string> arguments, Prepare prepare) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("pipe");
  test::Child child([&] {
    ::dup2(ends[1], 1);
    ::dup2(ends[1], 2);
    if (!prepare()) return 77;
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    ::fexecve(program, argv.data(), ::environ);
    std::perror("fexecve");
    return kNotExecuted;
  });
  ::close(ends[1]);
  Run run{0, {}};
  char buffer[4096];
  for (ssize_t n; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    run.output.append(buffer, static_cast<std::size_t>(n));
  ::close(ends[0]);
  run.status = child.wait();
  return run;
}

// Nothing that this process has open, but the program itself, goes to the intruder.
bool keep_only(int program) {
  return ::close_range(3, static_cast<unsigned>(program) - 1, 0) == 0 &&
         ::close_range(static_cast<unsigned>(program) + 1, ~0u, 0) == 0;
}

}  // namespace

TEST_CASE("another user can neither find, read, write, trace, signal nor join a family") {
  if (!may_change_user()) {
    MESSAGE("not tried: only root can become another user");
    return;
  }
  const Family family;
  mp::SharedMemory named = mp::SharedMemory::create(4096);
  struct stat arena;
  REQUIRE(::fstat(mp::memory::arena_fd(), &arena) == 0);
  const auto arguments = [&](const char* how) {
    std::vector<std::string> words{"intruder",
                                   how,
                                   std::to_string(mp::memory::arena_fd()),
                                   std::to_string(reinterpret_cast<std::uintptr_t>(mp::memory::detail::base)),
                                   std::to_string(arena.st_dev),
                                   std::to_string(arena.st_ino),
                                   named.name()};
    for (const pid_t pid : Family::pids()) words.push_back(std::to_string(pid));
    return words;
  };
  const std::size_t members = Family::pids().size();
  CHECK(members >= 10);
  const int intruder = executable_copy(INTRUDER);

  // The same attempts succeed where the user is the family's: they are not refused for another reason.
  const Run own = execute(intruder, arguments("look"), [&] { return keep_only(intruder); });
  if (own.status == kNotExecuted) {
    MESSAGE("not tried: this machine executes no program that lies in memory");
    ::close(intruder);
    named.unlink();
    return;
  }
  CHECK(own.status == 1);
  for (const char* what : {"open named shared memory to write", "list the descriptors",
                           "open the arena by its descriptor", "read the environment", "signal"})
    CHECK_MESSAGE(own.output.find(std::string("succeeded: ") + what) != std::string::npos, std::string(what));

  const Run refused = execute(intruder, arguments("harm"), [&] { return keep_only(intruder) && become_nobody(); });
  CHECK_MESSAGE(refused.status == 0, refused.output);
  CHECK(refused.output.find(std::to_string(4 + 12 * members) + " attempts") != std::string::npos);
  CHECK(Family::pids().size() == members);
  ::close(intruder);
  named.unlink();
}

TEST_CASE("memory that another user made is not joined as a family's") {
  if (!may_change_user()) {
    MESSAGE("not tried: only root can become another user");
    return;
  }
  // As set-user-ID programs are executed: with its owner's rights, and descriptors and arguments of somebody else's choice.
  const auto join = [](uid_t owner, mode_t mode) {
    const int program = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    // What the header of a real arena says.
    std::string header(4096, '\0');
    const std::size_t size = mp::memory::usage().capacity;
    if (::pread(mp::memory::arena_fd(), header.data(), header.size(), 0) != static_cast<ssize_t>(header.size()))
      return Run{-1, {}};
    Run run = execute(program, {"program", "--multiprocessing-fork", "3", "1"}, [&] {
      if (::seteuid(owner) != 0) return false;
      const int made = ::memfd_create("arena", 0);
      const bool filled = ::fchmod(made, mode) == 0 && ::ftruncate(made, static_cast<off_t>(size)) == 0 &&
                          ::pwrite(made, header.data(), header.size(), 0) == static_cast<ssize_t>(header.size());
      return ::seteuid(0) == 0 && filled && ::dup2(made, 3) == 3;
    });
    ::close(program);
    return run;
  };
  const char* const why = "not shared memory that is this user's alone";
  const Run foreign = join(kNobody, 0600), open_to_all = join(0, 0666), own = join(0, 0600);
  CHECK(foreign.status == 1);
  CHECK_MESSAGE(foreign.output.find(why) != std::string::npos, foreign.output);
  CHECK(open_to_all.status == 1);
  CHECK_MESSAGE(open_to_all.output.find(why) != std::string::npos, open_to_all.output);
  // That of the user himself is looked into: there is no such member in it.
  CHECK(own.status != 0);
  CHECK_MESSAGE(own.output.find(why) == std::string::npos, own.output);
}

TEST_CASE("a descriptor that is no arena is refused, whatever it is") {
  const auto join = [](auto make) {
    const int program = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    Run run = execute(program, {"program", "--multiprocessing-fork", "3", "1"}, [&] {
      ::close(3);
      const int fd = make();
      return fd == 3 || ::dup2(fd, 3) == 3;
    });
    ::close(program);
    return run;
  };
  const auto empty = join([] { return ::memfd_create("empty", 0); });
  const auto device = join([] { return ::open("/dev/zero", O_RDWR); });
  CHECK(empty.status == 1);
  CHECK(empty.output.find("cannot be one") != std::string::npos);
  CHECK(device.status == 1);
  CHECK(device.output.find("cannot be one") != std::string::npos);
}
