// Tests that misbehave, run one by one by selftest.sh to see that the supervisor says so.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

TEST_CASE("nothing is left" * doctest::skip()) { CHECK(true); }

TEST_CASE("a descriptor is left" * doctest::skip()) { CHECK(::open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0); }

TEST_CASE("an orphan is left" * doctest::skip()) {
  if (::fork() != 0) return;
  if (::fork() == 0) ::pause();
  ::_exit(0);
}

TEST_CASE("a shared memory name is left" * doctest::skip()) {
  ::close(::shm_open(std::getenv("MP_SELFTEST_NAME"), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
}

TEST_CASE("a crash" * doctest::skip()) { ::raise(SIGKILL); }

TEST_CASE("tests hang" * doctest::skip()) {
  for (;;) ::pause();
}
