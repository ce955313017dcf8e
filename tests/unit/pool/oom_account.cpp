#include <mp/pool/oom_account.hpp>

#include <doctest/doctest.h>
#include <unistd.h>

#include <string>

#include "oom_file.hpp"

using mp::pool::OomAccount;

TEST_CASE("a kill of the OOM killer is laid to one death, not to the next as well") {
  test::OomFile file;
  file.say("oom_kill 7\n");
  OomAccount account{mp::os::OomCounter(file.path())};
  CHECK(account.counter_file(nullptr) == file.path());
  CHECK(account.claim(nullptr) == 0u);  // those of before are nobody's
  file.say("oom_kill 9\n");
  CHECK(account.claim(nullptr) == 2u);
  CHECK(account.claim(nullptr) == 1u);
  CHECK(account.claim(nullptr) == 0u);
  file.say("oom_kill 10\n");
  CHECK(account.claim(nullptr) == 1u);
}

TEST_CASE("kills of long ago are no worker's") {
  test::OomFile file;
  file.say("oom_kill 0\n");
  OomAccount account{mp::os::OomCounter(file.path())};
  file.say("oom_kill 3\n");
  account.forget_unclaimed();
  CHECK(account.claim(nullptr) == 0u);
  file.say("oom_kill 5\n");
  CHECK(account.claim(nullptr) == 2u);
  account.forget_unclaimed();
  CHECK(account.claim(nullptr) == 0u);
}

TEST_CASE("without a counter nothing is claimed, and a group is known again") {
  OomAccount account{mp::os::OomCounter()};
  CHECK_FALSE(account.claim(nullptr));
  CHECK(account.counter_file(nullptr).empty());
  CHECK(account.group_of(::getpid()) == account.group_of(::getppid()));
}
