// A task's slot: what a small task costs in cache lines, and what becomes of results that do not fit.
#include <mp/pool/slot_task.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <string>

#include <mp/memory/arena.hpp>
#include <mp/mp.hpp>
#include <mp/pool/failure.hpp>

namespace {

using mp::pool::Slot;

constexpr std::size_t kLine = 64;

long add(long a, long b) { return a + b; }

template <class R>
const Slot& slot_of(const mp::Future<R>& future) {
  return static_cast<mp::pool::SlotTask&>(future.state()).slot();
}

// Bytes from the slot's beginning to the last that its arguments, or its result, take.
std::size_t argument_end(const Slot& s) { return offsetof(Slot, place) + s.argument_bytes; }
std::size_t result_end(const Slot& s) { return offsetof(Slot, place) + s.result_bytes; }

}  // namespace

TEST_CASE("a function with two numbers, a lambda with four, and their results take one cache line") {
  mp::ProcessPoolExecutor pool(1);
  const auto by_name = pool.submit(add, 1L, 2L);
  CHECK(by_name.result() == 3);
  CHECK(slot_of(by_name).rare == 0);
  CHECK(argument_end(slot_of(by_name)) == kLine);
  CHECK(result_end(slot_of(by_name)) <= kLine);

  const auto by_type = pool.submit([](long a, long b, long c, long d) { return a + b + c + d; }, 1L, 2L, 3L, 4L);
  CHECK(by_type.result() == 10);
  CHECK(slot_of(by_type).rare == 0);
  CHECK(argument_end(slot_of(by_type)) == kLine);
  CHECK(result_end(slot_of(by_type)) <= kLine);
}

TEST_CASE("arguments and results up to the slot's room lie in it, larger ones in a block") {
  mp::ProcessPoolExecutor pool(1);
  auto twice = [](const std::string& text) { return text + text; };
  for (const std::size_t size : {1u, 50u, 55u, 56u, 100u, 111u, 112u, 113u, 200u, 5000u}) {
    CAPTURE(size);
    const std::string text(size, 'x');
    const auto future = pool.submit(twice, text);
    CHECK(future.result() == text + text);
    const Slot& s = slot_of(future);
    // A text is its length in a byte or two, and its characters.
    CHECK(s.is(mp::pool::rare::kArguments) == (size + 1 > mp::pool::kInline));
    CHECK(s.is(mp::pool::rare::kResult) == (2 * size + 1 > mp::pool::kInline));
    CHECK(argument_end(s) <= offsetof(Slot, limits));
    CHECK(result_end(s) <= offsetof(Slot, limits));
  }
}

TEST_CASE("a result that finds no room says for how much, and frees what an earlier attempt has left") {
  mp::memory::start();
  const std::size_t before = mp::memory::bytes_in_use();
  Slot slot{};
  mp::pickle::Writer large;
  mp::pickle::dump(large, std::string(1000, 'x'));
  slot.set_result(large);  // and the worker was killed before it published that
  CHECK(slot.is(mp::pool::rare::kResult));
  CHECK(mp::memory::bytes_in_use() > before);

  slot.set_no_room(123'456);
  CHECK(mp::memory::bytes_in_use() == before);
  CHECK(slot.rare == 0);
  CHECK(slot.outcome == mp::pool::Outcome::no_room);
  std::size_t asked = 0;
  try {
    std::rethrow_exception(mp::pool::load_failure(slot, 1, ""));
  } catch (const mp::SharedMemoryFull& full) {
    asked = full.asked();
  }
  CHECK(asked == 123'456);
}
