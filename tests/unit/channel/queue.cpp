#include "mp/queue.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "mp/os/call.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using test::Child;

namespace {

// Cannot be written when told so.
struct Fussy {
  int value = 0;
  void mp_pickle(mp::pickle::Writer& w) const {
    w.put(value);
    if (value < 0) throw std::runtime_error("negative");
  }
  static Fussy mp_unpickle(mp::pickle::Reader& r) {
    const int value = r.get<int>("Fussy");
    if (value == 13) throw std::runtime_error("thirteen");
    return {value};
  }
};

struct Point {
  double x, y;
  std::string name;
  bool operator==(const Point&) const = default;
};

std::string pattern(std::size_t size) {
  std::string text(size, 0);
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 131 + i / 251);
  return text;
}

}  // namespace

TEST_CASE("items come out in the order in which they went in") {
  mp::Queue<int> queue;
  CHECK(queue.empty());
  for (int i = 0; i < 100'000; ++i) queue.put(i);
  CHECK(queue.qsize() == 100'000);
  CHECK_FALSE(queue.empty());
  CHECK_FALSE(queue.full());
  bool in_order = true;
  for (int i = 0; i < 100'000; ++i) in_order = in_order && queue.get() == i;
  CHECK(in_order);
  CHECK(queue.empty());
  CHECK(queue.qsize() == 0);
}

TEST_CASE("a bounded queue refuses what is too much, whichever way it is asked") {
  mp::Queue<int> queue(2);
  queue.put(1);
  CHECK_FALSE(queue.full());
  queue.put(2, true);
  CHECK(queue.full());
  CHECK_THROWS_AS(queue.put(3, false), mp::Full);
  CHECK_THROWS_AS(queue.put_nowait(3), mp::Full);
  CHECK_THROWS_AS(queue.put(3, true, 5ms), mp::Full);
  CHECK_THROWS_AS(queue.put(3, true, -1s), mp::Full);
  CHECK_FALSE(queue.try_put(3));
  CHECK_FALSE(queue.put_for(3, 5ms));
  CHECK(queue.qsize() == 2);
  CHECK(queue.get() == 1);
  CHECK(queue.try_put(3));
  CHECK(queue.get_nowait() == 2);
  CHECK(queue.get_for(1s) == 3);
}

TEST_CASE("an empty queue says so, whichever way it is asked, and not before the timeout") {
  mp::Queue<std::string> queue;
  CHECK_THROWS_AS(queue.get(false), mp::Empty);
  CHECK_THROWS_AS(queue.get_nowait(), mp::Empty);
  CHECK_THROWS_AS(queue.get(true, -1s), mp::Empty);
  CHECK_FALSE(queue.try_get());
  const auto begin = std::chrono::steady_clock::now();
  CHECK_THROWS_AS(queue.get(true, 60ms), mp::Empty);
  CHECK(std::chrono::steady_clock::now() - begin >= 60ms);
  CHECK_FALSE(queue.get_for(5ms));
}

TEST_CASE("a put waits for room, and a get for an item, in another process") {
  mp::Queue<int> there(1), back;
  Child child([there, back] {
    for (int item : there) back.put(item * 2);
    return 0;
  });
  for (int i = 0; i < 1000; ++i) there.put(i);
  there.shutdown();
  bool right = true;
  for (int i = 0; i < 1000; ++i) right = right && back.get() == 2 * i;
  CHECK(right);
  CHECK(child.join() == 0);
}

TEST_CASE("items of any size arrive whole") {
  mp::Queue<std::string> there, back;
  Child child([there, back] {
    for (std::string item : there) back.put(item);
    return 0;
  });
  for (std::size_t size :
       {0, 1, 7, 8, 255, 256, 1000, 8'150, 8'190, 8'192, 8'200, 16'000, 40'000, 65'536, 1'000'000, 100'000'000}) {
    CAPTURE(size);
    const std::string text = pattern(size);
    there.put(text);
    CHECK((back.get() == text));
  }
  there.shutdown();
  CHECK(child.join() == 0);
}

TEST_CASE_TEMPLATE("any picklable type travels", T, std::vector<int>, Point, std::map<std::string, std::vector<double>>,
                   std::optional<std::pair<int, std::string>>, std::vector<std::vector<std::string>>) {
  T value{};
  if constexpr (std::is_same_v<T, std::vector<int>>) value.assign(5000, 7);
  if constexpr (std::is_same_v<T, Point>) value = {1.5, -2, "here"};
  if constexpr (std::is_same_v<T, std::map<std::string, std::vector<double>>>) value = {{"a", {1, 2}}, {"b", {}}};
  if constexpr (std::is_same_v<T, std::optional<std::pair<int, std::string>>>) value = {3, "three"};
  if constexpr (std::is_same_v<T, std::vector<std::vector<std::string>>>)
    value.assign(100, {"x", std::string(300, 'y')});
  mp::Queue<T> there, back;
  Child child([there, back] {
    back.put(there.get());
    return 0;
  });
  there.put(value);
  CHECK((back.get() == value));
  CHECK(child.join() == 0);
}

TEST_CASE("many producers and consumers lose nothing and double nothing") {
  constexpr int kProducers = 3, kConsumers = 3;
  constexpr long kEach = 20'000;
  for (int bound : {0, 7}) {
    CAPTURE(bound);
    mp::Queue<long> queue(bound);
    mp::Queue<std::vector<long>> seen;
    std::vector<Child> children;
    for (int c = 0; c < kConsumers; ++c)
      children.emplace_back([queue, seen] {
        std::vector<long> mine;
        for (long item : queue) mine.push_back(item);
        seen.put(mine);
        return 0;
      });
    std::vector<Child> producers;
    for (int p = 0; p < kProducers; ++p)
      producers.emplace_back([queue, p] {
        for (long i = 0; i < kEach; ++i) queue.put(p * kEach + i);
        return 0;
      });
    for (Child& producer : producers) CHECK(producer.join() == 0);
    queue.shutdown();
    std::vector<int> times(kProducers * kEach);
    bool in_order = true;
    for (int c = 0; c < kConsumers; ++c) {
      std::vector<long> last(kProducers, -1);
      for (long item : seen.get()) {
        ++times[static_cast<std::size_t>(item)];
        long& before = last[static_cast<std::size_t>(item / kEach)];
        in_order = in_order && item > before;
        before = item;
      }
    }
    CHECK(in_order);
    CHECK(std::count(times.begin(), times.end(), 1) == kProducers * kEach);
    for (Child& child : children) CHECK(child.join() == 0);
  }
}

TEST_CASE("threads of one process may use one handle") {
  mp::Queue<int> queue(16);
  std::atomic<long> sum{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t)
    threads.emplace_back([&] {
      for (int item : queue) sum += item;
    });
  for (int t = 0; t < 2; ++t)
    threads.emplace_back([&] {
      for (int i = 1; i <= 5000; ++i) queue.put(i);
    });
  threads[2].join();
  threads[3].join();
  queue.shutdown();
  threads[0].join();
  threads[1].join();
  CHECK(sum == 2 * 5000L * 5001 / 2);
}

TEST_CASE("shutdown lets gets drain the queue and then ends them") {
  mp::Queue<int> queue;
  queue.put(1);
  queue.put(2);
  CHECK_FALSE(queue.is_shut_down());
  queue.shutdown();
  CHECK(queue.is_shut_down());
  CHECK_THROWS_AS(queue.put(3), mp::ShutDown);
  CHECK_THROWS_AS(queue.put_nowait(3), mp::ShutDown);
  CHECK_FALSE(queue.try_put(3));
  CHECK(queue.get() == 1);
  CHECK(queue.get_nowait() == 2);
  CHECK_THROWS_AS(queue.get(), mp::ShutDown);
  CHECK_THROWS_AS(queue.get_nowait(), mp::ShutDown);
  CHECK_FALSE(queue.try_get());
  CHECK_FALSE(queue.get_for(1h));
  for (int item : queue) FAIL(item);
}

TEST_CASE("shutdown at once drops what is there") {
  mp::Queue<std::string> queue(3);
  for (int i = 0; i < 3; ++i) queue.put(std::string(100'000, 'x'));
  const std::size_t before = mp::memory::bytes_in_use();
  queue.shutdown(true);
  CHECK(mp::memory::bytes_in_use() < before - 300'000);
  CHECK(queue.empty());
  CHECK_THROWS_AS(queue.get(), mp::ShutDown);
}

TEST_CASE("shutdown wakes who sleeps on either side") {
  mp::Queue<int> empty, full(1);
  full.put(0);
  Child getter([empty] {
    try {
      empty.get();
    } catch (const mp::ShutDown&) {
      return 7;
    }
    return 0;
  });
  Child putter([full] {
    try {
      full.put(1);
    } catch (const mp::ShutDown&) {
      return 7;
    }
    return 0;
  });
  std::this_thread::sleep_for(5ms);  // that they sleep; right in either case
  empty.shutdown();
  full.shutdown();
  CHECK(getter.join() == 7);
  CHECK(putter.join() == 7);
}

TEST_CASE("an item that cannot be written leaves the queue as it was") {
  mp::Queue<Fussy> queue(1);
  CHECK_THROWS_WITH_AS(queue.put({-1}), "negative", std::runtime_error);
  CHECK(queue.empty());
  queue.put({5});
  CHECK(queue.get().value == 5);
}

TEST_CASE("an item that cannot be read is gone, and the next one is there") {
  mp::Queue<Fussy> queue;
  queue.put({13});
  queue.put({14});
  CHECK_THROWS_WITH_AS(queue.get(), "thirteen", std::runtime_error);
  CHECK(queue.get().value == 14);
}

TEST_CASE("a queue travels through a queue, and keeps its items on the way") {
  mp::Queue<mp::Queue<int>> outer;
  {
    mp::Queue<int> inner;
    inner.put(42);
    outer.put(inner);
  }
  Child child([outer] { return outer.get().get(); });
  CHECK(child.join() == 42);
}

TEST_CASE("undelivered items and what they hold are freed with the queue") {
  mp::Queue<int>();  // what the process keeps for itself
  const std::size_t before = mp::memory::bytes_in_use();
  {
    mp::Queue<mp::Queue<std::string>> outer;
    for (int i = 0; i < 10; ++i) {
      mp::Queue<std::string> inner;
      for (int j = 0; j < 10; ++j) inner.put(std::string(20'000, 'x'));
      outer.put(inner);
    }
    CHECK(mp::memory::bytes_in_use() > before + 2'000'000);
  }
  CHECK(mp::memory::bytes_in_use() == before);
}

TEST_CASE("a drained queue keeps two segments at most") {
  mp::Queue<long> queue;
  const std::size_t before = mp::memory::bytes_in_use();
  for (long i = 0; i < 1'000'000; ++i) queue.put(i);
  CHECK(mp::memory::bytes_in_use() > before + 10'000'000);
  for (long i = 0; i < 1'000'000; ++i) queue.get();
  CHECK(mp::memory::bytes_in_use() <= before + 2 * 65'536);
}

TEST_CASE("a handle is taken only for a queue of its own kind") {
  mp::Queue<int> numbers;
  mp::pickle::Writer w;
  mp::pickle::dump(w, numbers);
  const auto read_as = [&]<class Q>(std::type_identity<Q>) {
    mp::pickle::Reader r(w.bytes());
    return mp::pickle::load<Q>(r);
  };
  CHECK(read_as(std::type_identity<mp::Queue<int>>()) == numbers);
  CHECK_THROWS_AS(read_as(std::type_identity<mp::Queue<std::string>>()), mp::UnpicklingError);
  CHECK_THROWS_AS(read_as(std::type_identity<mp::JoinableQueue<int>>()), mp::UnpicklingError);
  CHECK_THROWS_AS(read_as(std::type_identity<mp::SimpleQueue<int>>()), mp::UnpicklingError);
}

TEST_CASE("a closed handle refuses everything, and other handles do not notice") {
  mp::Queue<int> queue, other = queue;
  CHECK(queue == other);
  queue.close();
  queue.close();
  CHECK_THROWS_AS(queue.put(1), mp::ValueError);
  CHECK_THROWS_AS(queue.get(), mp::ValueError);
  CHECK_THROWS_AS(queue.qsize(), mp::ValueError);
  CHECK_THROWS_AS(queue.empty(), mp::OSError);
  other.put(1);
  CHECK(other.get() == 1);
}

TEST_CASE("full memory is an error of put, and the queue goes on") {
  mp::Queue<std::string> queue;
  queue.put("first");
  mp::os::fault_hook = +[](mp::os::Call call) noexcept { return call == mp::os::Call::fallocate ? ENOSPC : 0; };
  CHECK_THROWS_AS(queue.put(std::string(200'000'000, 'x')), mp::SharedMemoryFull);
  int in = 0;
  try {
    for (; in < 1'000'000; ++in) queue.put(std::string(8000, 'y'));
  } catch (const mp::SharedMemoryFull&) {}
  mp::os::fault_hook = nullptr;
  CHECK(queue.qsize() == static_cast<std::size_t>(in) + 1);
  CHECK(queue.get() == "first");
  queue.put("last");
  for (int i = 0; i < in; ++i) CHECK(queue.get().size() == 8000);
  CHECK(queue.get() == "last");
}

TEST_CASE("a joinable queue is done when everything was got and done") {
  mp::JoinableQueue<int> queue;
  CHECK(queue.join(0s));
  CHECK_THROWS_AS(queue.task_done(), mp::ValueError);
  for (int i = 0; i < 100; ++i) queue.put(i);
  CHECK_FALSE(queue.join(1ms));
  std::vector<Child> workers;
  for (int w = 0; w < 3; ++w)
    workers.emplace_back([queue] {
      for ([[maybe_unused]] int item : queue) queue.task_done();
      return 0;
    });
  CHECK(queue.join(10s));
  CHECK(queue.empty());
  CHECK_THROWS_AS(queue.task_done(), mp::ValueError);
  queue.put(1);
  CHECK(queue.join());
  queue.shutdown();
  for (Child& worker : workers) CHECK(worker.join() == 0);
}

TEST_CASE("another process may say that an item is done") {
  mp::JoinableQueue<int> queue;
  mp::Queue<int> taken;
  queue.put(1);
  Child taker([queue, taken] {
    taken.put(queue.get());
    return queue.join(10s) ? 0 : 1;
  });
  taken.get();
  CHECK_FALSE(queue.join(1ms));
  queue.task_done();
  CHECK(queue.join(0s));
  CHECK(taker.join() == 0);
}

TEST_CASE("a simple queue puts, gets and is empty") {
  mp::SimpleQueue<std::string> queue;
  CHECK(queue.empty());
  queue.put("a");
  CHECK_FALSE(queue.empty());
  CHECK(queue.get() == "a");
  CHECK(queue.empty());
  queue.close();
  queue.close();
  CHECK_THROWS_AS(queue.empty(), mp::OSError);
}
