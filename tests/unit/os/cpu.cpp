#include <mp/os/cpu.hpp>

#include <doctest/doctest.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include <mp/errors.hpp>
#include <mp/os/spin.hpp>

#include "child.hpp"

namespace {

// A copy of the program with MP_CPU_COUNT set, so that nothing remains of it here.
template <class F>
int with_override(const char* value, F f) {
  return test::in_child([&] {
    ::setenv("MP_CPU_COUNT", value, 1);
    return f();
  });
}

}  // namespace

TEST_CASE("there is at least one CPU, and a process may use at least one and at most all") {
  ::unsetenv("MP_CPU_COUNT");
  CHECK(mp::cpu_count() >= 1);
  CHECK(mp::cpu_count() == static_cast<unsigned>(::sysconf(_SC_NPROCESSORS_ONLN)));
  CHECK(mp::process_cpu_count() >= 1);
  CHECK(mp::process_cpu_count() <= mp::cpu_count());
}

TEST_CASE("a process that is bound to one CPU may use one, and does not spin") {
  CHECK(test::in_child([] {
          ::unsetenv("MP_CPU_COUNT");
          cpu_set_t mine, one;
          ::sched_getaffinity(0, sizeof mine, &mine);
          CPU_ZERO(&one);
          for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu)
            if (CPU_ISSET(cpu, &mine)) CPU_SET(cpu, &one);
          if (::sched_setaffinity(0, sizeof one, &one) != 0) return 1;
          if (mp::process_cpu_count() != 1) return 2;
          if (mp::os::spinning_pays()) return 3;
          int looks = 0;
          mp::os::Spinner spin;
          if (spin([&] { return ++looks > 1000; })) return 4;
          return looks == 1 ? 0 : 5;
        }) == 0);
}

TEST_CASE("MP_CPU_COUNT overrides both counts, read at each call") {
  CHECK(with_override("37", [] { return mp::cpu_count() == 37 && mp::process_cpu_count() == 37 ? 0 : 1; }) == 0);
  CHECK(with_override("1", [] {
          if (mp::process_cpu_count() != 1) return 1;
          ::setenv("MP_CPU_COUNT", "5", 1);
          return mp::process_cpu_count() == 5 ? 0 : 2;
        }) == 0);
  CHECK(with_override(
            "", [] { return mp::cpu_count() == static_cast<unsigned>(::sysconf(_SC_NPROCESSORS_ONLN)) ? 0 : 1; }) == 0);
}

TEST_CASE("an MP_CPU_COUNT that is no positive number is an error that names it") {
  for (const char* value : {"0", "-1", "two", "4 ", "4x", "1e3", "99999999999999999999"}) {
    CHECK(with_override(value, [&] {
            for (auto count : {mp::cpu_count, mp::process_cpu_count}) {
              try {
                count();
                return 1;
              } catch (const mp::ValueError& e) {
                if (std::string(e.what()).find(value) == std::string::npos) return 2;
              }
            }
            return 0;
          }) == 0);
  }
}

TEST_CASE("a spinner looks once more often than it waits, and gives up") {
  if (!mp::os::spinning_pays()) return;
  mp::os::Spinner spin;
  int looks = 0;
  CHECK_FALSE(spin([&] {
    ++looks;
    return false;
  }));
  CHECK(looks > 1);
  CHECK(spin([] { return true; }));
  // However often it paid off before, it is bounded.
  for (int i = 0; i < 1000; ++i) {
    int n = 0;
    spin([&] { return ++n == 3; });
  }
  looks = 0;
  CHECK_FALSE(spin([&] {
    ++looks;
    return false;
  }));
  CHECK(looks <= 4000);
}
