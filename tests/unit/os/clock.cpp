#include <mp/os/clock.hpp>

#include <doctest/doctest.h>

#include <limits>

using namespace std::chrono_literals;
using mp::Timeout;
using mp::os::Deadline;

TEST_CASE("no time limit is for ever") {
  CHECK(Timeout().forever());
  CHECK(Timeout(std::nullopt).forever());
  Deadline never{Timeout()};
  CHECK(never.never());
  CHECK_FALSE(never.passed());
  CHECK(never.next(20ms) == 20ms);
  CHECK_FALSE(Deadline().passed());
}

TEST_CASE("zero and negative limits have passed at once") {
  for (Timeout t : {Timeout(0s), Timeout(-1ns), Timeout(-5h), Timeout(std::chrono::nanoseconds::min()),
                    Timeout(std::chrono::duration<double>(-1e300))}) {
    CHECK_FALSE(t.forever());
    CHECK(t.left() == 0ns);
    CHECK(Deadline(t).passed());
    CHECK(Deadline(t).next(20ms) == 0ns);
  }
}

TEST_CASE("limits of every unit are kept, rounded up to nanoseconds") {
  CHECK(Timeout(3s).left() == 3s);
  CHECK(Timeout(0.5s).left() == 500ms);
  CHECK(Timeout(std::chrono::duration<double, std::nano>(0.25)).left() == 1ns);
}

TEST_CASE("limits beyond what the clock can count are for ever, and overflow nothing") {
  CHECK(Timeout(std::chrono::hours::max()).forever());
  CHECK(Timeout(std::chrono::duration<double>(1e300)).forever());
  CHECK(Timeout(std::chrono::duration<double>(std::numeric_limits<double>::infinity())).forever());
  Deadline century{Timeout(std::chrono::hours(24 * 365 * 90))};
  CHECK_FALSE(century.passed());
  CHECK(century.next(20ms) == 20ms);
}

TEST_CASE("a sleep is never longer than a slice, nor than what is left") {
  Deadline soon{Timeout(5ms)};
  auto next = soon.next(20ms);
  CHECK(next > 0ns);
  CHECK(next <= 5ms);
  CHECK(Deadline(Timeout(10s)).next(20ms) == 20ms);
  CHECK(mp::os::kSlice <= 20ms);
}
