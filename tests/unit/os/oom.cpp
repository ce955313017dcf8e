#include <mp/os/oom.hpp>

#include <doctest/doctest.h>
#include <unistd.h>

#include <string>

#include "oom_file.hpp"

TEST_CASE("the OOM killer's count is read from either form of control groups, anew each time") {
  test::OomFile file;
  file.say("low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 9\n");
  const mp::os::OomCounter v2(file.path());
  REQUIRE(v2);
  CHECK(v2.file() == file.path());
  CHECK(v2.read() == 2u);
  file.say("low 0\nhigh 0\nmax 7\noom 3\noom_kill 3\noom_group_kill 9\n");
  CHECK(v2.read() == 3u);
  file.say("oom_kill_disable 5\nunder_oom 0\noom_kill 4\n");
  CHECK(mp::os::OomCounter(file.path()).read() == 4u);
}

TEST_CASE("without a counter there is no count, rather than one of zero") {
  test::OomFile file;
  CHECK_FALSE(mp::os::OomCounter().read());
  CHECK_FALSE(mp::os::OomCounter(file.path()));
  CHECK_FALSE(mp::os::OomCounter(file.path()).read());
  file.say("oom_kill_disable 0\nunder_oom 0\n");  // Linux before 4.13
  CHECK_FALSE(mp::os::OomCounter(file.path()).read());
}

TEST_CASE("the counter of this process, where the system has one, is a readable file of its group") {
  const std::string file = mp::os::oom_counter_file(::getpid());
  CAPTURE(file);
  if (file.empty()) return;
  CHECK(file.starts_with("/sys/fs/cgroup/"));
  CHECK(mp::os::OomCounter::of(::getpid()).read());
}
