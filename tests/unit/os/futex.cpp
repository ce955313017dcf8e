#include <mp/os/futex.hpp>

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/time.h>

#include <array>
#include <cerrno>

#include <mp/os/call.hpp>

#include "child.hpp"

using namespace std::chrono_literals;
using mp::os::FutexWaiter;
using mp::os::Woken;
using Word = std::atomic<std::uint32_t>;

namespace {

constexpr auto kLong = 10s;

// Wakes until somebody was woken.
bool wake_one(const Word& word) {
  return test::eventually([&] { return mp::os::futex_wake(word, 1) == 1; });
}

}  // namespace

TEST_CASE("nobody sleeps on a word that has changed, or without time") {
  Word word{5};
  CHECK(mp::os::futex_wait(word, 4, kLong) == Woken::changed);
  CHECK(mp::os::futex_wait(word, 5, 0ns) == Woken::timed_out);
  CHECK(mp::os::futex_wait(word, 5, -3s) == Woken::timed_out);
  FutexWaiter both[] = {{&word, 5}, {&word, 4}};
  CHECK(mp::os::futex_wait_any(both, 2, kLong) == Woken::changed);
  CHECK(mp::os::futex_wait_any(both, 2, 0ns) == Woken::timed_out);
}

TEST_CASE("a sleep ends when its time is over, not before") {
  Word word{0}, other{0};
  CHECK(test::time_of([&] { CHECK(mp::os::futex_wait(word, 0, 30ms) == Woken::timed_out); }) >= 29ms);
  FutexWaiter both[] = {{&word, 0}, {&other, 0}};
  CHECK(test::time_of([&] { CHECK(mp::os::futex_wait_any(both, 2, 30ms) == Woken::timed_out); }) >= 29ms);
}

TEST_CASE("a process wakes another one, as many as it says") {
  test::Shared<Word> word(0u);
  CHECK(mp::os::futex_wake(*word, 1) == 0);
  auto team = test::children(3, [&](int) { return mp::os::futex_wait(*word, 0, kLong) == Woken::woken ? 0 : 1; });
  CHECK(wake_one(*word));
  int woken = 1;
  CHECK(test::eventually([&] { return (woken += mp::os::futex_wake(*word, mp::os::kAll)) == 3; }));
  CHECK(test::all_succeed(team));
}

TEST_CASE("waiting for any of many words ends with the first that is woken") {
  for (int which : {0, 63, 127}) {
    test::Shared<std::array<Word, mp::os::kMaxFutexes>> words;
    test::Child child([&] {
      std::array<FutexWaiter, mp::os::kMaxFutexes> all;
      for (std::size_t i = 0; i < all.size(); ++i) all[i] = {&(*words)[i], 0};
      return mp::os::futex_wait_any(all.data(), mp::os::kMaxFutexes, kLong) == Woken::woken ? 0 : 1;
    });
    CHECK(wake_one((*words)[static_cast<std::size_t>(which)]));
    CHECK(child.wait() == 0);
  }
}

TEST_CASE("where the kernel cannot wait for many words, one is waited for, briefly") {
  mp::os::fault_hook = [](mp::os::Call c) noexcept {
    static int calls = 0;
    return c == mp::os::Call::futex_waitv && calls++ == 0 ? ENOSYS : 0;
  };
  Word a{0}, b{0};
  FutexWaiter both[] = {{&a, 0}, {&b, 0}};
  CHECK(test::time_of([&] { CHECK(mp::os::futex_wait_any(both, 2, kLong) == Woken::timed_out); }) < 5s);
  mp::os::fault_hook = nullptr;
}

TEST_CASE("a signal handler interrupts a sleep") {
  CHECK(test::in_child([] {
          struct sigaction act{};
          act.sa_handler = [](int) {};
          ::sigaction(SIGALRM, &act, nullptr);
          itimerval often{{0, 5000}, {0, 5000}};
          ::setitimer(ITIMER_REAL, &often, nullptr);
          Word word{0}, other{0};
          if (mp::os::futex_wait(word, 0, kLong) != Woken::interrupted) return 1;
          FutexWaiter both[] = {{&word, 0}, {&other, 0}};
          return mp::os::futex_wait_any(both, 2, kLong) == Woken::interrupted ? 0 : 2;
        }) == 0);
}

TEST_CASE("waking leaves errno alone") {
  Word word{0};
  errno = 123;
  mp::os::futex_wake(word, 1);
  CHECK(errno == 123);
}

TEST_CASE("a killed sleeper takes no wake-up with it") {
  test::Shared<Word> word(0u);
  auto asleep = [&] { return mp::os::futex_wait(*word, 0, kLong) == Woken::woken ? 0 : 1; };
  test::Child doomed(asleep);
  CHECK(test::eventually([&] { return mp::os::futex_wake(*word, 0) >= 0; }));
  test::Child other(asleep);
  doomed.kill();
  CHECK(wake_one(*word));
  CHECK(other.wait() == 0);
}
