#include <mp/os/fence.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include <mp/os/biased_lock.hpp>
#include <mp/os/call.hpp>

#include "child.hpp"

namespace {

// One that changes something and looks who sleeps, and one that says so and looks what has changed: round after round at the
// same moment. Whether both have ever missed each other.
struct Meeting {
  static constexpr std::uint32_t kRounds = 5000;
  std::atomic<std::uint32_t> go{0}, done{0}, both_missed{0};
  alignas(64) std::atomic<std::uint32_t> changed{0};
  alignas(64) std::atomic<std::uint32_t> sleeps{0};
  alignas(64) std::atomic<std::uint32_t> changer_saw{0};

  static void until(const std::atomic<std::uint32_t>& word, std::uint32_t round) {
    for (int looks = 0; word.load(std::memory_order_acquire) != round; ++looks)
      if (looks > 1000) std::this_thread::yield();  // the other has no CPU
  }
  void change() {
    for (std::uint32_t round = 1; round <= kRounds; ++round) {
      until(go, round);
      changed.store(round, std::memory_order_relaxed);
      mp::os::light_fence();
      changer_saw.store(sleeps.load(std::memory_order_relaxed), std::memory_order_relaxed);
      done.store(round, std::memory_order_release);
    }
  }
  void sleep() {
    for (std::uint32_t round = 1; round <= kRounds; ++round) {
      go.store(round, std::memory_order_release);
      for (std::uint32_t i = 0; i < round % 40; ++i) asm volatile("");
      sleeps.store(round, std::memory_order_relaxed);
      mp::os::heavy_fence();
      const bool missed = changed.load(std::memory_order_relaxed) != round;
      until(done, round);
      if (missed && changer_saw.load(std::memory_order_relaxed) != round) both_missed.fetch_add(1);
    }
  }
};

}  // namespace

TEST_CASE("who changes and who sleeps never miss each other, in two processes and in two threads") {
  mp::os::enlist_in_fences();  // and by that its children
  {
    test::Shared<Meeting> meeting;
    test::Child changer([&] {
      meeting->change();
      return 0;
    });
    meeting->sleep();
    CHECK(changer.wait() == 0);
    CHECK(meeting->both_missed == 0);
  }
  Meeting meeting;
  std::thread changer([&] { meeting.change(); });
  meeting.sleep();
  changer.join();
  CHECK(meeting.both_missed == 0);
}

TEST_CASE("a heavy fence that the kernel refuses says so") {
  mp::os::enlist_in_fences();
  mp::os::fault_hook = [](mp::os::Call call) noexcept { return call == mp::os::Call::membarrier ? EPERM : 0; };
  CHECK_FALSE(mp::os::heavy_fence());
  mp::os::fault_hook = nullptr;
  CHECK(mp::os::heavy_fence());
}

TEST_CASE("a lock that one thread had to itself keeps others out as well, from the moment they come") {
  mp::os::enlist_in_fences();
  for (int round = 0; round < 50; ++round) {
    mp::os::BiasedLock lock;
    long count = 0;  // not atomic: the lock's to guard
    std::atomic<bool> alone{true};
    constexpr long kAlone = 1000, kTogether = 5000;
    auto add = [&](long times) {
      for (long i = 0; i < times; ++i) {
        lock.lock();
        count = count + 1;
        lock.unlock();
      }
    };
    std::thread second([&] {
      while (alone) {}
      add(kTogether);
    });
    add(kAlone);
    alone = false;
    add(kTogether);
    second.join();
    REQUIRE(count == kAlone + 2 * kTogether);
  }
}
