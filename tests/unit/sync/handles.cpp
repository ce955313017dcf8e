// Every handle of this room as something that is sent: what comes out is the same object, and it lives meanwhile.
#include <mp/array.hpp>
#include <mp/sync.hpp>
#include <mp/value.hpp>

#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <optional>
#include <random>
#include <string>

#include <mp/errors.hpp>
#include <mp/memory/arena.hpp>
#include <mp/pickle/value.hpp>

#include "child.hpp"

using namespace std::chrono_literals;
namespace pickle = mp::pickle;

namespace {

template <class T>
T sent(const T& handle) {
  pickle::Writer out;
  pickle::dump(out, handle);
  pickle::Reader in(out.bytes());
  return pickle::load<T>(in);
}

// The handle goes while it is in the message: only the message keeps the object.
template <class T>
T sent_alone(std::optional<T> handle) {
  pickle::Writer out;
  pickle::dump(out, *handle);
  handle.reset();
  pickle::Reader in(out.bytes());
  return pickle::load<T>(in);
}

}  // namespace

TEST_CASE_TEMPLATE("a handle that is sent arrives as the same object", T, mp::Lock, mp::RLock, mp::Semaphore,
                   mp::BoundedSemaphore, mp::Event, mp::Condition) {
  T handle;
  CHECK(sent(handle) == handle);
  T other;
  CHECK(sent(handle) != other);
}

TEST_CASE("what is done to the handle that arrived is done to the object") {
  mp::Lock lock;
  sent(lock).acquire();
  CHECK(lock.locked());
  lock.release();
  mp::RLock rlock;
  sent(rlock).acquire();
  CHECK(rlock.owned());
  rlock.release();
  mp::Semaphore semaphore(3);
  CHECK(sent(semaphore).acquire());
  CHECK(semaphore.get_value() == 2);
  mp::BoundedSemaphore bounded(3);
  CHECK_THROWS_AS(sent(bounded).release(), mp::ValueError);
  mp::Event event;
  sent(event).set();
  CHECK(event.is_set());
  mp::Barrier barrier(7);
  CHECK(sent(barrier).parties() == 7);
  sent(barrier).abort();
  CHECK(barrier.broken());
  mp::Value<int> value(4);
  sent(value) += 3;
  CHECK(value.get() == 7);
  mp::RawValue<double> raw(0.5);
  CHECK(sent(raw).get() == 0.5);
  mp::Array<int> array({1, 2, 3});
  sent(array)[1] = 20;
  CHECK(array[1] == 20);
  mp::RawArray<char> text("abc");
  CHECK(sent(text).value() == "abc");
}

TEST_CASE("what was sent with a lock arrives with that lock") {
  mp::Lock lock;
  mp::Condition condition(lock);
  mp::Condition arrived = sent(condition);
  arrived.acquire();
  CHECK(lock.locked());
  arrived.notify();
  arrived.release();
  mp::Value<int> value(1, lock), none(2, mp::no_lock);
  auto value_too = sent(value);
  value_too.acquire();
  CHECK(lock.locked());
  lock.release();
  CHECK_THROWS_AS(sent(none).acquire(), mp::ValueError);
}

TEST_CASE("an object lives in the message when its last handle is gone") {
  std::size_t before = mp::memory::bytes_in_use();
  {
    mp::Semaphore s = sent_alone(std::optional(mp::Semaphore(5)));
    CHECK(s.get_value() == 5);
    mp::Value<long> v = sent_alone(std::optional(mp::Value<long>(123)));
    CHECK(v.get() == 123);
    mp::Array<char> a = sent_alone(std::optional(mp::Array<char>("text")));
    CHECK(a.value() == "text");
    mp::Condition c = sent_alone(std::optional(mp::Condition()));
    c.acquire();
    c.release();
    CHECK(sent_alone(std::optional(mp::Barrier(1, [] {}))).wait() == 0);
  }
  CHECK(mp::memory::bytes_in_use() == before);
}

TEST_CASE("a message that is never read lets its objects go") {
  std::size_t before = mp::memory::bytes_in_use();
  {
    pickle::Writer out;
    pickle::dump(out, mp::Array<double>(1000));
    CHECK(mp::memory::bytes_in_use() > before);
  }
  CHECK(mp::memory::bytes_in_use() == before);
}

TEST_CASE("a handle read as another kind or element type is refused") {
  auto refused = [](const auto& from, auto* to) {
    using To = std::remove_pointer_t<decltype(to)>;
    pickle::Writer out;
    pickle::dump(out, from);
    pickle::Reader in(out.bytes());
    CHECK_THROWS_AS(pickle::load<To>(in), mp::UnpicklingError);
  };
  mp::Lock lock;
  refused(lock, static_cast<mp::RLock*>(nullptr));
  refused(lock, static_cast<mp::Semaphore*>(nullptr));
  refused(lock, static_cast<mp::Event*>(nullptr));
  refused(lock, static_cast<mp::Condition*>(nullptr));
  refused(lock, static_cast<mp::Barrier*>(nullptr));
  refused(lock, static_cast<mp::RawValue<int>*>(nullptr));
  refused(mp::RLock(), static_cast<mp::Lock*>(nullptr));
  refused(mp::Event(), static_cast<mp::Lock*>(nullptr));
  refused(mp::Semaphore(), static_cast<mp::BoundedSemaphore*>(nullptr));
  refused(mp::Value<int>(1), static_cast<mp::Value<float>*>(nullptr));
  refused(mp::Value<int>(1), static_cast<mp::Value<long>*>(nullptr));
  refused(mp::Array<int>(3), static_cast<mp::Array<unsigned>*>(nullptr));
  refused(mp::Array<int>(3), static_cast<mp::Value<int>*>(nullptr));
}

TEST_CASE("random bytes read as a handle are refused or name a real one, and never crash") {
  mp::Lock lock;
  std::mt19937_64 random(5);
  int refused = 0, tries = 0;
  auto attempt = [&]<class T>(T*, std::uint64_t word, std::uint64_t next) {
    std::array<std::byte, 24> bytes;
    std::memcpy(bytes.data(), &word, 8);
    std::memcpy(bytes.data() + 8, &next, 8);
    std::memcpy(bytes.data() + 16, &next, 8);
    pickle::Reader in(std::span<const std::byte>(bytes).first(8 + next % 17));
    ++tries;
    try {
      static_cast<void>(pickle::load<T>(in));
    } catch (const mp::UnpicklingError&) {
      ++refused;
    }
  };
  for (int i = 0; i < 10'000; ++i) {
    std::uint64_t word = 1 + (random() >> random() % 63), next = random();
    attempt(static_cast<mp::Lock*>(nullptr), word, next);
    attempt(static_cast<mp::RLock*>(nullptr), word, next);
    attempt(static_cast<mp::Semaphore*>(nullptr), word, next);
    attempt(static_cast<mp::Condition*>(nullptr), word, next);
    attempt(static_cast<mp::Barrier*>(nullptr), word, next);
    attempt(static_cast<mp::Event*>(nullptr), word, next);
    attempt(static_cast<mp::Value<int>*>(nullptr), word, next);
    attempt(static_cast<mp::Array<int>*>(nullptr), word, next);
  }
  CHECK(refused >= tries - 10);  // by chance one may hit the lock
}

TEST_CASE("a message that ends too early is refused") {
  pickle::Writer out;
  pickle::dump(out, mp::Value<int>(1));
  for (std::size_t n = 0; n < out.size(); ++n) {
    pickle::Reader in(out.bytes().first(n));
    CHECK_THROWS_AS(static_cast<void>(pickle::load<mp::Value<int>>(in)), mp::UnpicklingError);
  }
}

TEST_CASE("a handle that was moved from says so when it is used") {
  mp::Lock lock;
  mp::Lock moved = std::move(lock);
  CHECK_THROWS_AS(lock.acquire(), mp::ValueError);
  moved.acquire();
  moved.release();
}

TEST_CASE("a handle of an object that is gone is refused") {
  std::array<std::byte, 8> stale;
  {
    pickle::Writer out;
    pickle::dump(out, mp::Event());
    std::memcpy(stale.data(), out.bytes().data(), 8);
  }
  pickle::Reader in(stale);
  CHECK_THROWS_AS(static_cast<void>(pickle::load<mp::Event>(in)), mp::UnpicklingError);
}
