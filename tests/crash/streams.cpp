// Queues and pipes, one side killed at every instruction of what it does.
#include "mp/queue.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <vector>

#include "mp/connection.hpp"
#include "step.hpp"

using namespace std::chrono_literals;

namespace {

// The long way to a full segment, 4095 numbers: the next put crosses into a new one.
template <class T>
void fill_up_to_link(const mp::Queue<T>& queue, const T& item, int items) {
  for (int i = 0; i < items; ++i) queue.put(item);
  for (int i = 0; i < items; ++i) queue.get();
}

// All that can be had without waiting.
template <class T>
std::vector<T> drain(const mp::Queue<T>& queue) {
  std::vector<T> all;
  while (auto item = queue.try_get()) all.push_back(*item);
  return all;
}

// After a victim's put of 1, put 2: the queue holds 1 or not, then 2, and knows how many.
void check_put(const mp::Queue<long>& queue) {
  const auto start = std::chrono::steady_clock::now();
  queue.put(2);
  const auto took = std::chrono::steady_clock::now() - start;
  REQUIRE(took < 2s);  // a slice of 20 ms, but the machine may be busy
  const std::size_t size = queue.qsize();
  const auto all = drain(queue);
  REQUIRE(all.size() == size);
  if (all.size() == 1) REQUIRE(all == std::vector<long>{2});
  else REQUIRE(all == std::vector<long>{1, 2});
  REQUIRE(queue.empty());
  REQUIRE(queue.qsize() == 0);
}

}  // namespace

TEST_CASE("a producer killed at any instruction of put leaves a whole queue") {
  // What allocates takes thousands of instructions: some of them.
  SUBCASE("into a new queue") {
    for (long k = 0;; k += 61) {
      const mp::Queue<long> queue;
      const bool killed = crash::killed_after(k, [&] { queue.put(1); });
      check_put(queue);
      if (!killed) break;
    }
  }
  SUBCASE("into one that is in use") {
    const mp::Queue<long> queue;
    for (long k = 0; crash::killed_after(k, [&] { queue.put(1); }); ++k) check_put(queue);
  }
  SUBCASE("into a bounded one") {
    const mp::Queue<long> queue(2);
    for (long k = 0; crash::killed_after(k, [&] { queue.put(1); }); ++k) check_put(queue);
  }
  SUBCASE("into a new segment") {
    for (long k = 0;; ++k) {
      const mp::Queue<long> queue;
      fill_up_to_link(queue, 7L, 2 * 4095);  // the first is spare then
      const bool killed = crash::killed_after(k, [&] { queue.put(1); });
      check_put(queue);
      for (long i = 0; i < 5000; ++i) queue.put(i);  // and on into the next
      const auto all = drain(queue);
      REQUIRE(all.size() == 5000);
      REQUIRE(all.back() == 4999);
      if (!killed) break;
    }
  }
  SUBCASE("and what it had put is taken before the next put") {
    const mp::Queue<long> queue;
    for (long k = 0; crash::killed_after(k, [&] { queue.put(1); }); ++k) {
      const auto first = drain(queue);
      REQUIRE(first.size() <= 1);
      REQUIRE(queue.qsize() == 0);
      queue.put(2);
      REQUIRE(queue.qsize() == 1);
      const auto second = drain(queue);
      REQUIRE(second.size() + first.size() <= 2);
      REQUIRE(second.back() == 2);
      REQUIRE(queue.qsize() == 0);
    }
  }
}

TEST_CASE("a consumer killed at any instruction of get takes at most the one item with it") {
  const mp::Queue<long> queue(4);
  for (long k = 0;; ++k) {
    queue.put(1);
    queue.put(2);
    const bool killed = crash::killed_after(k, [&] { queue.get(); });
    const auto all = drain(queue);
    REQUIRE(!all.empty());
    REQUIRE(all.back() == 2);
    REQUIRE(all.size() <= 2);
    REQUIRE(queue.qsize() == 0);
    for (long i = 0; i < 4; ++i) REQUIRE(queue.try_put(i));  // its room is free again
    REQUIRE_FALSE(queue.try_put(4));
    REQUIRE(drain(queue).size() == 4);
    if (!killed) break;
  }
}

TEST_CASE("the room in a pipe is right after a sender was killed at any seventh instruction") {
  auto [here, there] = mp::Pipe();
  for (long k = 0; crash::killed_after(k, [&, &here = here] { here.send(1L); }); k += 7) {
    here.send(2L);
    long last = there.recv<long>();
    if (last == 1) last = there.recv<long>();
    REQUIRE(last == 2);
    REQUIRE_FALSE(there.poll());
  }
}
