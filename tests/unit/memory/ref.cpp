// References and what they keep alive, across copies, forks and deaths.
#include <mp/memory/ref.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include <mp/errors.hpp>
#include <mp/memory/family.hpp>
#include <mp/os/call.hpp>

#include "child.hpp"

using namespace std::chrono_literals;
using namespace mp::memory;

namespace {

struct Counter {
  explicit Counter(int n = 0) noexcept : value(n) {}
  std::atomic<int> value;
};

Ref make(int n = 0) { return create<Counter>(Kind::bytes, 77, 0, n); }
std::uint32_t holders(Offset object) { return header_of(object).holders.load(); }
bool gone(Offset object) { return !is_object(object, Kind::bytes); }

// Of processes that have ended, as soon as the kernel says so.
bool eventually_swept(auto&& condition) {
  return test::eventually([&] {
    sweep();
    return condition();
  });
}

}  // namespace

TEST_CASE("an object lives as long as a reference to it") {
  Offset object;
  {
    Ref a = make(5);
    object = a.offset();
    CHECK(is_object(object, Kind::bytes));
    CHECK(is_object(object, Kind::bytes, 77));
    CHECK_FALSE(is_object(object, Kind::bytes, 78));
    CHECK_FALSE(is_object(object, Kind::lock));
    auto b = std::make_unique<Ref>(a);
    Ref c = std::move(a);
    CHECK_FALSE(a);
    CHECK(*b == c);
    b.reset();
    CHECK(c.as<Counter>().value == 5);
    CHECK(holders(object) == 1);
  }
  CHECK(gone(object));
}

TEST_CASE("what another process names is taken for an object only if it is one, and has room for what it should be") {
  const Ref a = make(5);
  CHECK(try_object<Counter>(a.offset(), Kind::bytes, 77) == &a.as<Counter>());
  CHECK(try_object<Counter>(a.offset(), Kind::bytes, 77, 1 << 20) == nullptr);
  CHECK(try_object<Counter>(a.offset(), Kind::bytes, 77, ~std::size_t{0}) == nullptr);
  CHECK(try_object<Counter>(a.offset(), Kind::lock) == nullptr);
  CHECK(try_object<Counter>(a.offset() + 16, Kind::bytes) == nullptr);
  for (const Offset wrong : {Offset{16}, Offset{4096}, a.offset() + 8, a.offset() + 32, ~Offset{15}}) {
    CHECK_FALSE(try_release(wrong));
    CHECK_THROWS_AS(Ref{wrong}, mp::UnpicklingError);
  }
  retain(a.offset());
  CHECK(try_release(a.offset()));
  CHECK(holders(a.offset()) == 1);
}

TEST_CASE("copies within a process are counted once in shared memory") {
  Ref a = make();
  std::vector<Ref> copies(1000, a);
  CHECK(holders(a.offset()) == 1);
  copies.clear();
  CHECK(holders(a.offset()) == 1);
}

TEST_CASE("assigning a reference lets the old object go") {
  Ref a = make(), b = make();
  Offset old = a.offset();
  a = b;
  CHECK(gone(old));
  const Ref& same = a;
  a = same;
  CHECK(a == b);
  CHECK(holders(b.offset()) == 1);
}

TEST_CASE("a reference that was moved from says so when it is used") {
  Ref a = make();
  Ref b = std::move(a);
  CHECK_THROWS_AS(static_cast<void>(a.as<Counter>()), mp::ValueError);
}

TEST_CASE("the last to drop an object destroys it, by its kind's destroyer") {
  static int destroyed = 0;
  set_destroyer(Kind::record, [](void* object) noexcept { destroyed += static_cast<Counter*>(object)->value; });
  {
    Ref a = create<Counter>(Kind::record, 0, 0, 7);
    Ref b = a;
  }
  set_destroyer(Kind::record, nullptr);
  CHECK(destroyed == 7);
}

// Its header is what another process has written.
TEST_CASE("what says that it is of a kind, but does not lie as that kind does, is freed without its destroyer") {
  static int destroyed = 0;
  struct alignas(64) Wide {
    int value = 0;
  };
  set_destroyer(Kind::record, [](void*) noexcept { ++destroyed; }, alignof(Wide));
  const std::size_t before = bytes_in_use();
  int wide = 0;
  for (int i = 0; i < 8; ++i) {
    const Ref narrow = create<Counter>(Kind::record, 0, 0, 7);
    if (narrow.offset() % alignof(Wide) == 0) ++wide;  // by chance
    const Ref well = create<Wide>(Kind::record, 0, 0);
    ++wide;
  }
  set_destroyer(Kind::record, nullptr);
  CHECK(destroyed == wide);
  CHECK(wide < 16);
  CHECK(bytes_in_use() == before);
}

TEST_CASE("a constructor that throws leaves nothing") {
  struct Thrower {
    Thrower() { throw std::runtime_error("no"); }
  };
  std::size_t before = bytes_in_use();
  CHECK_THROWS_AS(create<Thrower>(Kind::bytes, 0, 0), std::runtime_error);
  CHECK(bytes_in_use() == before);
}

TEST_CASE("a message in flight keeps its object") {
  Offset object;
  {
    Ref a = make(3);
    object = a.offset();
    retain(object);
  }
  CHECK(is_object(object, Kind::bytes));
  {
    Ref b(object);
    release(object);
    CHECK(b.as<Counter>().value == 3);
  }
  CHECK(gone(object));
}

TEST_CASE("a fork child holds what its parent held, from the moment of the fork") {
  for (int i = 0; i < 50; ++i) {
    test::Shared<std::atomic<int>> seen(0);
    std::optional<Ref> ref = make(42);
    Offset object = ref->offset();
    test::Child child([&] {
      *seen = ref->as<Counter>().value.load();
      if (!is_object(object, Kind::bytes)) return 1;
      // A destructor that frees it too early would show here.
      for (int n = 0; n < 20; ++n) static_cast<void>(make());
      return ref->as<Counter>().value == 42 ? 0 : 2;
    });
    ref.reset();
    Ref other = make(13);  // takes the place of the object, had it been freed
    CHECK(child.wait() == 0);
    CHECK(*seen == 42);
    CHECK(eventually_swept([&] { return gone(object) || object == other.offset(); }));
  }
}

TEST_CASE("a dead process's references are released") {
  Ref ref = make();
  test::Shared<std::atomic<int>> ready(0);
  auto team = test::children(3, [&](int) {
    Ref copy = ref;
    ready->fetch_add(1);
    for (;;) ::pause();
  });
  REQUIRE(test::eventually([&] { return *ready == 3; }));
  CHECK(holders(ref.offset()) == 4);
  team[0].kill();
  CHECK(eventually_swept([&] { return holders(ref.offset()) == 3; }));
  team.clear();
  CHECK(eventually_swept([&] { return holders(ref.offset()) == 1; }));
}

TEST_CASE("an object that only dead processes held is freed") {
  test::Shared<std::atomic<Offset>> object(0);
  test::Child child([&] {
    static Ref mine;
    mine = make();
    *object = mine.offset();
    for (;;) ::pause();
  });
  REQUIRE(test::eventually([&] { return *object != 0; }));
  CHECK(is_object(*object, Kind::bytes));
  child.kill();
  CHECK(eventually_swept([&] { return gone(*object); }));
}

TEST_CASE("a grandchild holds what its parent held when that is gone") {
  Ref ref = make();
  test::Shared<std::atomic<int>> stage(0);
  test::Child child([&] {
    Ref own = make(9);
    test::Child grandchild([&] {
      *stage = 1;
      while (*stage != 2) std::this_thread::sleep_for(1ms);
      *stage = own.as<Counter>().value == 9 ? 3 : 4;
    });
    if (!test::eventually([&] { return *stage == 1; })) return 1;
    ::_exit(0);  // without waiting: the supervisor of the tests inherits the grandchild
  });
  CHECK(child.wait() == 0);
  CHECK(eventually_swept([&] { return holders(ref.offset()) == 2; }));
  *stage = 2;
  CHECK(test::eventually([&] { return *stage > 2; }));
  CHECK(*stage == 3);
  CHECK(eventually_swept([&] { return holders(ref.offset()) == 1; }));
}

TEST_CASE("more references than a bag's first block has room for") {
  std::size_t before = bytes_in_use();
  {
    std::vector<Ref> many;
    for (int i = 0; i < 2000; ++i) many.push_back(make(i));
    CHECK(test::in_child([&] {
            for (int i = 0; i < 2000; ++i)
              if (many[static_cast<std::size_t>(i)].as<Counter>().value != i ||
                  holders(many[static_cast<std::size_t>(i)].offset()) != 2)
                return 1;
            many.resize(500);
            for (int i = 0; i < 3000; ++i) many.push_back(make());
            return 0;
          }) == 0);
    CHECK(eventually_swept([&] { return holders(many[0].offset()) == 1 && holders(many[1999].offset()) == 1; }));
  }
  CHECK(bytes_in_use() < before + 100'000);  // the bag itself stays grown
}

TEST_CASE("garbage names no object and does no harm") {
  Ref real = make();
  std::mt19937_64 random(7);
  int found = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    Offset offset = random() >> random() % 64;
    found += is_object(offset, Kind::bytes) && offset != real.offset();
    found += is_object(offset, Kind::lock);
  }
  CHECK(found == 0);
  for (Offset near = real.offset() - 200; near < real.offset() + 200; ++near)
    CHECK(is_object(near, Kind::bytes, 77) == (near == real.offset()));
}

TEST_CASE("a Recorder sees which objects are copied while it is there") {
  Ref a = make(), b = make();
  {
    Recorder outer;
    Ref x = a;
    {
      Recorder inner;
      Ref y = b;
      CHECK(inner.objects() == std::vector{b.offset()});
    }
    CHECK(outer.objects() == std::vector{a.offset()});
  }
  CHECK(Recorder::current() == nullptr);
}

TEST_CASE("threads that copy and drop references to the same objects keep the counts right") {
  std::vector<Ref> refs;
  for (int i = 0; i < 8; ++i) refs.push_back(make());
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      std::vector<Ref> mine(8);
      for (int i = 0; i < 20'000; ++i) {
        mine[random() % 8] = refs[random() % 8];
        mine[random() % 8] = Ref();
        if (i % 10 == 0) mine[random() % 8] = make();
      }
    });
  for (auto& t : threads) t.join();
  for (Ref& r : refs) CHECK(holders(r.offset()) == 1);
}

TEST_CASE("a full memory makes no reference, and breaks none") {
  Ref a = make(1);
  std::vector<Ref> many;
  mp::os::fault_hook = [](mp::os::Call call) noexcept { return call == mp::os::Call::fallocate ? ENOSPC : 0; };
  CHECK_THROWS_AS(
      [&] {
        for (;;) many.push_back(create<Counter>(Kind::bytes, 77, 20'000));
      }(),
      mp::SharedMemoryFull);
  errno = 0;
  pid_t pid = fork_as(enlist(self()));  // may or may not find room for the child's references
  if (pid == 0) ::_exit(0);
  int error = errno;
  mp::os::fault_hook = nullptr;
  if (pid < 0) CHECK(error == ENOSPC);
  else CHECK(test::Child::of(pid).wait() == 0);
  many.clear();
  CHECK(a.as<Counter>().value == 1);
  CHECK(make(2).as<Counter>().value == 2);
}
