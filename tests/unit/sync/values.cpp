// Value, RawValue, Array, RawArray: plain data that several processes see.
#include <mp/sync/array.hpp>
#include <mp/sync/value.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <numeric>
#include <ranges>
#include <thread>
#include <vector>

#include <mp/errors.hpp>
#include <mp/memory/family.hpp>
#include <mp/os/call.hpp>

#include "child.hpp"

using namespace std::chrono_literals;

namespace {

struct Point {
  long x = 0, y = 0, z = 0;
  bool operator==(const Point&) const = default;
};
enum class Colour : unsigned char { red, green };
class Private {
 public:
  explicit Private(int n = 0) : n_(n) {}
  int n() const { return n_; }

 private:
  int n_;
};
struct alignas(64) Wide {
  double numbers[16];
};

}  // namespace

TEST_CASE_TEMPLATE("+= from four processes and two threads loses nothing", T, int, unsigned char, long, std::uint64_t,
                   float, double) {
  mp::Value<T> value(T(0));
  constexpr int kEach = 20'000;
  auto add = [&] {
    for (int i = 0; i < kEach; ++i) value += T(1);
  };
  auto team = test::children(4, [&](int) { add(); });
  std::thread a(add), b(add);
  a.join();
  b.join();
  CHECK(test::all_succeed(team));
  CHECK(value.get() == static_cast<T>(6 * kEach));
}

TEST_CASE("a number too large for the machine's atomics is added to under the lock") {
  mp::Value<long double> value(0);
  auto team = test::children(4, [&](int) {
    for (int i = 0; i < 5000; ++i) value += 0.5L;
  });
  CHECK(test::all_succeed(team));
  CHECK(value.get() == 10'000);
}

TEST_CASE("arithmetic on a Value gives what it gives on a number") {
  mp::Value<int> v(10);
  CHECK((v += 5) == 15);
  CHECK((v -= 3) == 12);
  CHECK(++v == 13);
  CHECK(v++ == 13);
  CHECK(--v == 13);
  CHECK(v-- == 13);
  CHECK(v == 12);
  CHECK((v &= 6) == 4);
  CHECK((v |= 3) == 7);
  CHECK((v ^= 2) == 5);
  CHECK(v.fetch_add(1) == 5);
  CHECK(v.fetch_sub(2) == 6);
  CHECK(v.exchange(9) == 4);
  CHECK(v.update([](int old) { return old * old; }) == 9);
  CHECK(v.value() == 81);
  v = 7;
  CHECK(v + 1 == 8);
  v.set(-1);
  CHECK(v.get() == -1);
  mp::Value<double> d(0.5);
  CHECK((d += 0.25) == 0.75);
  mp::Value<unsigned char> wraps(250);
  CHECK((wraps += 10) == 4);
}

TEST_CASE("update from several processes is atomic") {
  mp::Value<int> value(0);
  auto team = test::children(4, [&](int) {
    for (int i = 0; i < 10'000; ++i) value.update([](int old) { return (old + 1) % 1000; });
  });
  CHECK(test::all_succeed(team));
  CHECK(value.get() == 0);
}

TEST_CASE("a struct is always seen whole") {
  mp::Value<Point> value({0, 0, 0});
  mp::Value<int> stop(0);
  auto writers = test::children(2, [&](int) {
    for (long i = 0; i < 20'000; ++i) value.set({i, i, i});
    stop += 1;
  });
  auto readers = test::children(2, [&](int) {
    while (stop.get() < 2) {
      Point p = value;
      if (p.x != p.y || p.y != p.z) return 1;
    }
    return 0;
  });
  CHECK(test::all_succeed(writers));
  CHECK(test::all_succeed(readers));
  CHECK(value.get() == Point{19'999, 19'999, 19'999});
}

TEST_CASE("a section under a Value's lock is one step for others") {
  mp::Value<Point> value({0, 0, 0});
  auto team = test::children(4, [&](int) {
    for (int i = 0; i < 5000; ++i) {
      std::scoped_lock guard(value);
      Point p = value.get();  // the lock is recursive
      p.x += 1;
      value.set(p);
      value.get_obj().y += 1;
    }
  });
  CHECK(test::all_succeed(team));
  CHECK(value.get() == Point{20'000, 20'000, 0});
}

TEST_CASE("a Value takes the lock it is given, or none") {
  mp::Lock lock;
  mp::RLock rlock;
  mp::Value<int> a(1, lock), b(2, rlock), c(3, mp::no_lock);
  a.acquire();
  CHECK(lock.locked());
  CHECK_FALSE(a.try_lock());
  CHECK(a.get_lock().locked());
  a += 1;  // numbers need no lock
  CHECK(a.get() == 2);
  a.release();
  CHECK_FALSE(lock.locked());
  {
    std::lock_guard guard(b);
    CHECK(rlock.locked());
  }
  CHECK_THROWS_AS(c.get_lock(), mp::ValueError);
  CHECK_THROWS_AS(c.acquire(), mp::ValueError);
  CHECK((c += 1) == 4);
}

TEST_CASE("values of every plain kind keep their bits") {
  CHECK(mp::Value<bool>(true).get());
  CHECK(mp::Value<char>('x').get() == 'x');
  CHECK(mp::Value<Colour>(Colour::green).get() == Colour::green);
  CHECK(mp::Value<Private>(Private(4)).get().n() == 4);
  CHECK(mp::RawValue<Point>(Point{1, 2, 3}).get() == Point{1, 2, 3});
  mp::Value<Wide> wide;
  CHECK(reinterpret_cast<std::uintptr_t>(&wide.get_obj()) % 64 == 0);
  CHECK(wide.get().numbers[15] == 0);
  mp::RawValue<std::array<int, 1000>> large({1, 2, 3});
  CHECK(test::in_child([&] { large.get_obj()[999] = 5; }) == 0);
  CHECK(large.get()[2] == 3);
  CHECK(large.get()[999] == 5);
}

TEST_CASE("a Value whose holder was killed says so, and can be recovered") {
  mp::Value<Point> value({1, 1, 1});
  CHECK(test::in_child([&] {
          value.acquire();
          value.get_obj().x = 2;
          ::raise(SIGKILL);
        }) == -SIGKILL);
  CHECK_THROWS_AS(value.get(), mp::OwnerDied);
  CHECK(value.get_lock().recover([&] { value.get_obj() = {5, 5, 5}; }));
  CHECK(value.get() == Point{5, 5, 5});
}

TEST_CASE("an Array is zero at first, a span in every process, and never copied") {
  mp::Array<double> array(1000);
  CHECK(array.size() == 1000);
  CHECK(std::ranges::all_of(array, [](double d) { return d == 0; }));
  CHECK(test::in_child([&] {
          for (double& d : array.span().subspan(100, 50)) d = 1.5;
        }) == 0);
  CHECK(std::accumulate(array.begin(), array.end(), 0.0) == 75);
  mp::Array<double> same = array;
  same[0] = 3;
  CHECK(array[0] == 3);
  CHECK(same.data() == array.data());
  CHECK(array.copy().size() == 1000);
  CHECK(array.at(999) == 0);
  CHECK_THROWS_AS(array.at(1000), mp::ValueError);
}

TEST_CASE("an Array is zero also where its memory was used before") {
  for (std::size_t size : {10, 1000, 50'000, 500'000}) {
    for (int i = 0; i < 3; ++i) {
      mp::RawArray<unsigned char> array(size);
      CHECK(std::ranges::count(array, 0) == static_cast<std::ptrdiff_t>(size));
      std::ranges::fill(array, 0xee);
    }
  }
}

TEST_CASE("an Array is made from what has elements") {
  std::vector<int> v{1, 2, 3};
  CHECK(std::ranges::equal(mp::Array<int>(v), v));
  CHECK(std::ranges::equal(mp::RawArray<long>(v), v));
  CHECK(std::ranges::equal(mp::Array<int>({1, 2, 3}), v));
  CHECK(std::ranges::equal(mp::Array<int>(std::views::iota(1, 4)), v));
  CHECK(mp::Array<int>(0).size() == 0);
  CHECK(mp::Array<int>(std::vector<int>()).span().empty());
}

TEST_CASE("a char Array is text up to the first NUL, or all its bytes") {
  mp::Array<char> text("hello");
  CHECK(text.value() == "hello");
  CHECK(text.raw().starts_with("hello"));
  mp::Array<char> room(8);
  CHECK(room.value().empty());
  CHECK(room.raw() == std::string_view("\0\0\0\0\0\0\0\0", 8));
  room.set_value("abc");
  CHECK(room.value() == "abc");
  room.set_value("12345678");
  CHECK(room.value() == "12345678");
  CHECK_THROWS_AS(room.set_value("123456789"), mp::ValueError);
}

TEST_CASE("the lock of an Array") {
  mp::Lock lock;
  mp::Array<int> own(4), given(4, lock), none(4, mp::no_lock);
  {
    std::scoped_lock guard(own, given);
    CHECK(lock.locked());
    CHECK(own.get_lock().locked());
  }
  CHECK_FALSE(lock.locked());
  CHECK_THROWS_AS(none.acquire(), mp::ValueError);
  auto team = test::children(4, [&](int) {
    for (int i = 0; i < 5000; ++i) {
      std::lock_guard guard(own);
      own[2] = own[2] + 1;
    }
  });
  CHECK(test::all_succeed(team));
  CHECK(own[2] == 20'000);
}

TEST_CASE("a hundred megabytes are shared, and given back") {
  std::size_t before = mp::memory::bytes_in_use();
  {
    mp::RawArray<std::uint64_t> array(100'000'000 / 8);
    auto team = test::children(2, [&](int i) {
      auto half = array.span().subspan(static_cast<std::size_t>(i) * array.size() / 2, array.size() / 2);
      std::iota(half.begin(), half.end(), static_cast<std::uint64_t>(i) << 32);
    });
    CHECK(test::all_succeed(team));
    CHECK(array[0] == 0);
    CHECK(array[array.size() / 2 - 1] == array.size() / 2 - 1);
    CHECK(array[array.size() - 1] == (1ull << 32) + array.size() / 2 - 1);
    CHECK(mp::memory::bytes_in_use() > before + 90'000'000);
  }
  // The children's references go when somebody sweeps up after them.
  CHECK(test::eventually([&] {
    mp::memory::sweep();
    return mp::memory::bytes_in_use() < before + 2'000'000;
  }));
}

TEST_CASE("too large an Array is an error, at once") {
  CHECK_THROWS_AS(mp::Array<double>(std::size_t{1} << 50), mp::SharedMemoryFull);
  CHECK_THROWS_AS(mp::Array<double>(~std::size_t{0}), mp::SharedMemoryFull);
  mp::os::fault_hook = [](mp::os::Call call) noexcept { return call == mp::os::Call::fallocate ? ENOSPC : 0; };
  CHECK_THROWS_AS(mp::Array<double>(64'000'000), mp::SharedMemoryFull);  // more than lies idle
  mp::os::fault_hook = nullptr;
  CHECK(mp::Array<double>(10'000'000).size() == 10'000'000);
}
