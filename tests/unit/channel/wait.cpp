#include "mp/channel/wait.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "mp/errors.hpp"
#include "mp/os/life.hpp"
#include "mp/queue.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using mp::connection::wait;
using Places = std::vector<std::size_t>;
using test::Child;

TEST_CASE("several connections are waited for until each has ended") {
  std::vector<mp::Connection> ends;
  std::vector<Child> children;
  for (int i = 0; i < 4; ++i) {
    auto [r, w] = mp::Pipe(false);
    ends.push_back(std::move(r));
    children.emplace_back([w = std::move(w), i]() mutable {
      for (int n = 0; n < 10; ++n) {
        if (i % 2) std::this_thread::sleep_for(1ms);
        w.send(10 * i + n);
      }
      return 0;
    });
  }
  std::vector<int> got;
  while (!ends.empty()) {
    const Places ready = wait(ends, 5s);
    REQUIRE_FALSE(ready.empty());
    for (auto place = ready.rbegin(); place != ready.rend(); ++place) {
      try {
        got.push_back(ends[*place].recv<int>());
      } catch (const mp::EOFError&) {
        ends.erase(ends.begin() + static_cast<std::ptrdiff_t>(*place));
      }
    }
  }
  std::sort(got.begin(), got.end());
  CHECK(got.size() == 40);
  CHECK(std::unique(got.begin(), got.end()) == got.end());
}

TEST_CASE("wait returns nothing when time is up, not before, and at once when it is negative") {
  auto [a, b] = mp::Pipe();
  const auto begin = std::chrono::steady_clock::now();
  CHECK(wait({a, b}, 50ms).empty());
  CHECK(std::chrono::steady_clock::now() - begin >= 50ms);
  CHECK(wait({a, b}, -1s).empty());
  CHECK(wait({a, b}, 0s).empty());
  b.send(1);
  CHECK(wait({a, b}, 20s) == Places{0});
  a.send(1);
  CHECK(wait({a, b}) == Places{0, 1});
  CHECK(wait({}, 1ms).empty());
}

TEST_CASE("queues are waited for as well, and wake who sleeps") {
  mp::Queue<int> numbers, never;
  mp::SimpleQueue<std::string> words;
  Child child([numbers] {
    std::this_thread::sleep_for(10ms);
    numbers.put(1);
    return 0;
  });
  CHECK(wait({never, numbers, words}, 10s) == Places{1});
  words.put("x");
  never.shutdown();
  CHECK(wait({never, numbers, words}) == Places{0, 1, 2});
}

TEST_CASE("connections, queues and sentinels may be mixed") {
  auto [a, b] = mp::Pipe();
  mp::Queue<int> queue, go;
  Child child([b = b, queue, go]() mutable {
    go.get();
    queue.put(1);
    go.get();
    b.send(2);
    go.get();
    return 0;
  });
  const mp::os::UniqueFd sentinel = mp::os::open_pidfd(child.pid());
  CHECK(wait({a, queue, sentinel.get()}, 20ms).empty());
  go.put(0);
  CHECK(wait({a, queue, sentinel.get()}, 10s) == Places{1});
  queue.get();
  go.put(0);
  CHECK(wait({a, queue, sentinel.get()}, 10s) == Places{0});
  a.recv<int>();
  go.put(0);
  CHECK(wait({a, queue, sentinel.get()}, 10s) == Places{2});
  CHECK(child.join() == 0);
  CHECK(wait({sentinel.get()}) == Places{0});
}

TEST_CASE("the death of a peer ends a wait, alone and in a mix") {
  for (bool mixed : {false, true}) {
    CAPTURE(mixed);
    auto [a, b] = mp::Pipe();
    Child child([b = b]() mutable {
      b.send(1);
      for (;;) ::pause();
      return 0;
    });
    b.close();
    a.recv<int>();
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    child.kill();
    const auto begin = std::chrono::steady_clock::now();
    CHECK((mixed ? wait({a, ends[0]}, 10s) : wait({a}, 10s)) == Places{0});
    CHECK(std::chrono::steady_clock::now() - begin < 500ms);
    CHECK_THROWS_AS(a.recv<int>(), mp::EOFError);
    ::close(ends[0]);
    ::close(ends[1]);
  }
}

TEST_CASE("more objects than the kernel takes at once are waited for all the same") {
  std::vector<mp::Queue<int>> queues(200);
  Child child([last = queues.back()] {
    std::this_thread::sleep_for(10ms);
    last.put(1);
    return 0;
  });
  CHECK(wait(queues, 10s) == Places{199});
}

TEST_CASE("what is no descriptor is refused") {
  CHECK_THROWS_AS(wait({-1}), mp::ValueError);
  CHECK_THROWS_AS(wait({1'000'000}), mp::OSError);
}
