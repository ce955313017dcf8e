#include <mp/memory/family.hpp>

#include <doctest/doctest.h>

#include <set>
#include <thread>
#include <vector>

#include <mp/errors.hpp>
#include <mp/memory/ref.hpp>
#include <mp/os/call.hpp>

#include "child.hpp"

using namespace mp::memory;
using namespace std::chrono_literals;

TEST_CASE("a process is one member, which lives as long as it does") {
  const Tag me = self();
  CHECK(me != kNobody);
  CHECK(self() == me);
  CHECK(alive(me));
  CHECK(pid_of(me) == ::getpid());
  CHECK_FALSE(retire(me));

  test::Shared<std::atomic<Tag>> tag(0u);
  test::Child child([&] {
    *tag = self();
    for (;;) ::pause();
  });
  REQUIRE(test::eventually([&] { return *tag != kNobody; }));
  CHECK(*tag != me);
  CHECK(alive(*tag));
  CHECK(pid_of(*tag) == child.pid());
  CHECK_FALSE(retire(*tag));
  child.signal(SIGKILL);
  CHECK(test::eventually([&] { return !alive(*tag); }));  // a zombie is dead already
  child.wait();
  CHECK_FALSE(alive(*tag));
  CHECK(retire(*tag));
  CHECK_FALSE(retire(*tag));
  CHECK_FALSE(alive(kNobody));
}

TEST_CASE("a death counts as found once somebody has asked after it or retired it, and for good") {
  CHECK_FALSE(found_dead(self()));
  CHECK(found_dead(kNobody));
  test::Shared<std::atomic<Tag>> tag(0u);
  const auto one_that_died = [&] {
    REQUIRE(test::in_child([&] { *tag = self(); }) == 0);
    return tag->load();
  };
  const Tag asked_after = one_that_died(), retired = one_that_died();
  CHECK_FALSE(found_dead(asked_after));  // only the kernel knows
  CHECK_FALSE(alive(asked_after));
  CHECK(found_dead(asked_after));
  CHECK_FALSE(found_dead(retired));
  CHECK(retire(retired));
  CHECK(found_dead(retired));
  CHECK(retire(asked_after));
  CHECK(found_dead(asked_after));
  // Also when another lives in its place.
  Tag next = kNobody;
  for (std::size_t i = 0; i < 2 * kMaxMembers && index_of(next) != index_of(asked_after); ++i) {
    if (next != kNobody) dismiss(next);
    next = enlist(self());
  }
  REQUIRE(index_of(next) == index_of(asked_after));
  CHECK_FALSE(found_dead(next));
  CHECK(found_dead(asked_after));
  dismiss(next);
  CHECK(found_dead(next));
}

TEST_CASE("an enlisted member lives while its creator does, and becomes the child that is forked as it") {
  const Tag child = enlist(self());
  CHECK(alive(child));
  CHECK_FALSE(retire(child));
  test::Shared<std::atomic<Tag>> seen(0u);
  pid_t pid = fork_as(child);
  if (pid == 0) {
    *seen = self();
    ::_exit(0);
  }
  CHECK(test::Child::of(pid).wait() == 0);
  CHECK(*seen == child);
  CHECK_FALSE(alive(child));
  CHECK(retire(child));
}

TEST_CASE("an entry that is given up can be had again, thousands of times") {
  std::set<Tag> tags;
  for (int i = 0; i < 20'000; ++i) {
    Tag tag = enlist(self());
    CHECK_MESSAGE(tags.insert(tag).second, "a tag came back");
    dismiss(tag);
    if (alive(tag)) FAIL("a dismissed member lives");
  }
}

TEST_CASE("a family can be full, which is an exception, and passes") {
  std::vector<Tag> tags;
  CHECK_THROWS_AS(
      [&] {
        for (;;) tags.push_back(enlist(self()));
      }(),
      mp::Error);
  CHECK(tags.size() > kMaxMembers / 2);
  CHECK(tags.size() < kMaxMembers);
  for (Tag tag : tags) dismiss(tag);
  dismiss(enlist(self()));
}

TEST_CASE("the child of a fork that finds the family full cannot use shared objects, and is told so") {
  std::vector<Tag> tags;
  try {
    for (;;) tags.push_back(enlist(self()));
  } catch (const mp::Error&) {}
  CHECK(test::in_child([] {
          try {
            self();
            return 1;
          } catch (const mp::Error&) {
            return 0;
          }
        }) == 0);
  for (Tag tag : tags) dismiss(tag);
}

TEST_CASE("a fork that fails gives its entry up") {
  const Tag child = enlist(self());
  mp::os::fault_hook = [](mp::os::Call c) noexcept { return c == mp::os::Call::fork ? EAGAIN : 0; };
  CHECK(fork_as(child) == -1);
  CHECK(errno == EAGAIN);
  mp::os::fault_hook = nullptr;
  CHECK_FALSE(alive(child));
}

TEST_CASE("what a dead creator had enlisted is dead, and swept") {
  test::Shared<std::atomic<Tag>> orphan(0u);
  CHECK(test::in_child([&] { *orphan = enlist(self()); }) == 0);
  // For some seconds its process might still be about to speak.
  CHECK(test::eventually([&] { return !alive(*orphan); }, 20s));
  sweep();
  CHECK_FALSE(retire(*orphan));
}

TEST_CASE("what a dead maker was to fork is dead some seconds later, though who enlisted it lives") {
  test::Shared<std::atomic<Tag>> maker(0u);
  REQUIRE(test::in_child([&] { *maker = self(); }) == 0);
  const Tag tag = enlist(self());
  retire(*maker);
  CHECK(alive(tag));
  orphan(tag, *maker);
  CHECK(alive(tag));  // its process may just have been forked
  CHECK(test::eventually([&] { return !alive(tag); }, 20s));
  CHECK(test::eventually([&] {
    sweep();
    return (member(tag).state.load() & 0xff) == 0;
  }));
  const Tag again = enlist(self());
  CHECK(alive(again));
  dismiss(again);
}

TEST_CASE("the sweep releases what the dead have held") {
  const std::size_t before = bytes_in_use();
  auto team = test::children(5, [](int) {
    static std::vector<Ref> held;
    for (int i = 0; i < 200; ++i) held.push_back(create<long>(Kind::bytes, 0, 1000, 0L));
  });
  CHECK(test::all_succeed(team));
  CHECK(bytes_in_use() > before);
  CHECK(test::eventually([&] {
    sweep();
    return bytes_in_use() == before;
  }));
}

TEST_CASE("children of two threads that fork at once are different members") {
  constexpr int kForks = 50;
  test::Shared<std::atomic<Tag>> tags[2 * kForks];
  std::atomic<bool> wrong{false};
  auto fork_many = [&](int from) {
    for (int i = from; i < from + kForks; ++i) {
      Tag child = enlist(self());
      pid_t pid = fork_as(child);
      if (pid == 0) {
        *tags[i] = self();
        ::_exit(0);
      }
      if (test::Child::of(pid).wait() != 0 || *tags[i] != child) wrong = true;
    }
  };
  std::thread a([&] { fork_many(0); }), b([&] { fork_many(kForks); });
  a.join();
  b.join();
  CHECK_FALSE(wrong);
  std::set<Tag> different;
  for (auto& tag : tags) different.insert(*tag);
  CHECK(different.size() == 2 * kForks);
  for (Tag tag : different) retire(tag);
}

TEST_CASE("grandchildren of plain forks are members of their own") {
  test::Shared<std::atomic<Tag>> child(0u), grandchild(0u);
  CHECK(test::in_child([&] {
          *child = self();
          return test::in_child([&] { *grandchild = self(); });
        }) == 0);
  CHECK(*child != kNobody);
  CHECK(*grandchild != kNobody);
  CHECK(*child != *grandchild);
  retire(*child);
  retire(*grandchild);
}

TEST_CASE("members retire while others are enlisted and forked, and no living one is taken for dead") {
  auto team = test::children(3, [](int) {
    for (int i = 0; i < 60; ++i) {
      Tag tag = enlist(self());
      if (!alive(tag)) return 1;
      pid_t pid = fork_as(tag);
      if (pid == 0) ::_exit(alive(self()) ? 0 : 1);
      if (test::Child::of(pid).wait() != 0) return 2;
      sweep();
      retire(tag);
      if (!alive(self())) return 3;
    }
    return 0;
  });
  CHECK(test::all_succeed(team));
}
