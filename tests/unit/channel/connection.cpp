#include "mp/connection.hpp"

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <string>
#include <thread>
#include <vector>

#include "mp/queue.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using namespace std::string_literals;
using test::Child;

namespace {

std::string text_of(std::size_t size) {
  std::string text(size, 0);
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 31 + i / 100);
  return text;
}

bool fd_readable(int fd, int limit_ms) {
  pollfd p{fd, POLLIN, 0};
  return ::poll(&p, 1, limit_ms) == 1;
}

// Sends back what comes, as bytes, until the end of file.
int echo(mp::Connection connection) {
  try {
    for (;;) connection.send_bytes(connection.recv_bytes());
  } catch (const mp::EOFError&) {
    return 0;
  }
}

}  // namespace

TEST_CASE("values go both ways") {
  auto [here, there] = mp::Pipe();
  Child child([there = there]() mutable {
    there.send(there.recv<std::string>() + "!");
    there.send(there.recv<std::vector<double>>().size());
    return 0;
  });
  here.send("hello");
  CHECK(here.recv<std::string>() == "hello!");
  here.send(std::vector<double>(1000));
  CHECK(here.recv<std::size_t>() == 1000);
  CHECK(child.join() == 0);
}

TEST_CASE("bytes go both ways, in messages of any size") {
  auto [here, there] = mp::Pipe();
  Child child([there = std::move(there)] { return echo(there); });
  for (std::size_t size : {0, 1, 8'000, 8'184, 8'185, 70'000, 16'777'216, 100'000'000}) {
    CAPTURE(size);
    const std::string text = text_of(size);
    here.send_bytes(text);
    CHECK((here.recv_bytes() == text));
  }
  here.close();
  CHECK(child.join() == 0);
}

TEST_CASE("a part of a buffer is sent, and no part that is none") {
  auto [a, b] = mp::Pipe();
  const std::string text = "abcdefghijklmnopqrstuvwxyz";
  a.send_bytes(text);
  CHECK(b.recv_bytes() == text);
  a.send_bytes(text, 5);
  CHECK(b.recv_bytes() == text.substr(5));
  a.send_bytes(text, 7, 8);
  CHECK(b.recv_bytes() == text.substr(7, 8));
  a.send_bytes(text, 26);
  CHECK(b.recv_bytes().empty());
  a.send_bytes(text, 26, 0);
  CHECK(b.recv_bytes().empty());
  CHECK_THROWS_AS(a.send_bytes(text, 27), mp::ValueError);
  CHECK_THROWS_AS(a.send_bytes(text, 22, 5), mp::ValueError);
  CHECK_THROWS_AS(a.send_bytes(text, 26, 1), mp::ValueError);
  CHECK_THROWS_AS(a.send_bytes(text, -1), mp::ValueError);
  CHECK_THROWS_AS(a.send_bytes(text, 4, -1), mp::ValueError);
  CHECK_FALSE(b.poll());
}

TEST_CASE("bytes are received into a buffer, or wholly in the error that it is too short") {
  auto [a, b] = mp::Pipe();
  std::array<std::byte, 10> buffer{};
  a.send_bytes("abc");
  CHECK(b.recv_bytes_into(buffer, 3) == 3);
  CHECK(buffer[2] == std::byte{0});
  CHECK(buffer[3] == std::byte{'a'});
  a.send_bytes("0123456789x");
  try {
    b.recv_bytes_into(buffer);
    FAIL("it fits");
  } catch (const mp::BufferTooShort& e) {
    CHECK(e.message() == "0123456789x");
  }
  CHECK_THROWS_AS(b.recv_bytes_into(buffer, 11), mp::ValueError);
  CHECK_THROWS_AS(b.recv_bytes_into(buffer, -1), mp::ValueError);
}

TEST_CASE("a message longer than allowed is an error, and the handle receives no more") {
  auto [a, b] = mp::Pipe();
  a.send_bytes("0123456789");
  CHECK_THROWS_AS(b.recv_bytes(9), mp::OSError);
  CHECK_FALSE(b.readable());
  CHECK(b.writable());
  CHECK_THROWS_AS(b.recv_bytes(), mp::OSError);
}

TEST_CASE("a one-way pipe has a receiver and a sender") {
  auto [r, w] = mp::Pipe(false);
  CHECK(r.readable());
  CHECK_FALSE(r.writable());
  CHECK_FALSE(w.readable());
  CHECK(w.writable());
  w.send(1);
  CHECK(r.recv<int>() == 1);
  CHECK_THROWS_AS(r.send(2), mp::OSError);
  CHECK_THROWS_AS(w.recv<int>(), mp::OSError);
  CHECK_THROWS_AS(w.poll(), mp::OSError);
}

TEST_CASE("poll tells what is there, and waits as long as told") {
  auto [a, b] = mp::Pipe();
  CHECK_FALSE(b.poll());
  CHECK_FALSE(b.poll(-1s));
  const auto begin = std::chrono::steady_clock::now();
  CHECK_FALSE(b.poll(40ms));
  CHECK(std::chrono::steady_clock::now() - begin >= 40ms);
  a.send_bytes("");
  CHECK(b.poll());
  CHECK(b.poll(std::nullopt));
  CHECK(b.recv_bytes().empty());
  CHECK_FALSE(b.poll());
  CHECK_FALSE(b.try_recv<int>());
  CHECK_FALSE(b.recv_for<std::string>(2ms));
  a.send(5);
  CHECK(b.recv_for<int>(1s) == 5);
}

TEST_CASE("a message of another type is refused by name and gone") {
  auto [a, b] = mp::Pipe();
  a.send(1.5);
  CHECK_THROWS_WITH_AS(b.recv<std::string>(), doctest::Contains("double"), mp::UnpicklingError);
  a.send(1.5);
  CHECK_THROWS_AS(b.recv<long>(), mp::UnpicklingError);  // of the same size
  a.send_bytes("raw");
  CHECK_THROWS_AS(b.recv<std::string>(), mp::UnpicklingError);
  a.send(2);
  CHECK(b.recv<int>() == 2);
}

TEST_CASE("a closed connection is refused") {
  auto [a, b] = mp::Pipe();
  CHECK_FALSE(a.closed());
  a.close();
  a.close();
  CHECK(a.closed());
  CHECK_FALSE(a.readable());
  CHECK_THROWS_AS(a.send(1), mp::OSError);
  CHECK_THROWS_AS(a.recv<int>(), mp::OSError);
  CHECK_THROWS_AS(a.poll(), mp::OSError);
  CHECK_THROWS_AS(a.fileno(), mp::OSError);
}

TEST_CASE("after the other end was closed, what it sent is received and then the end of file; sending breaks at once") {
  auto [a, b] = mp::Pipe();
  b.send(1);
  b.send("two");
  b.close();
  CHECK_THROWS_AS(a.send(0), mp::BrokenPipeError);
  CHECK(a.poll());
  CHECK(a.recv<int>() == 1);
  CHECK(a.recv<std::string>() == "two");
  CHECK(a.poll());
  CHECK_THROWS_AS(a.recv<int>(), mp::EOFError);
  CHECK_THROWS_AS(a.try_recv<int>(), mp::EOFError);
}

TEST_CASE("closing wakes who waits at the other end, without delay") {
  auto [a, b] = mp::Pipe();
  auto [started_here, started_there] = mp::Pipe();
  Child child([a = std::move(a), tell = started_there]() mutable {
    tell.send(1);
    try {
      a.recv<int>();
    } catch (const mp::EOFError&) {
      return 7;
    }
    return 0;
  });
  started_here.recv<int>();
  b.close();
  CHECK(child.join() == 7);
}

TEST_CASE("a copy keeps an end open") {
  auto [a, b] = mp::Pipe();
  mp::Connection copy = b;
  CHECK(copy == b);
  CHECK_FALSE(copy == a);
  b.close();
  a.send(1);
  CHECK(copy.recv<int>() == 1);
  copy = std::move(a);  // the last handle of b's end goes
  CHECK_THROWS_AS(copy.send(1), mp::BrokenPipeError);
}

TEST_CASE("sending waits while more than 1 MiB is under way") {
  auto [a, b] = mp::Pipe();
  Child child([a = a]() mutable {
    for (int i = 0; i < 64; ++i) a.send_bytes(std::string(100'000, 'x'));
    return 0;
  });
  a.close();
  std::size_t most = 0;
  for (int i = 0; i < 64; ++i) {
    most = std::max(most, mp::memory::bytes_in_use());
    CHECK(b.recv_bytes().size() == 100'000);
  }
  CHECK(most < 3'000'000);
  CHECK(child.join() == 0);
}

TEST_CASE("a connection works in the process that it was sent to, and stays open on the way") {
  auto [a, b] = mp::Pipe();
  mp::Queue<mp::Connection> queue;
  queue.put(b);
  b.close();
  a.send(20);
  std::this_thread::sleep_for(30ms);  // longer than between two looks
  a.send(22);
  Child child([queue] {
    mp::Connection mine = queue.get();
    mine.send(mine.recv<int>() + mine.recv<int>());
    return 0;
  });
  CHECK(a.recv<int>() == 42);
  CHECK(child.join() == 0);
  CHECK_THROWS_AS(a.recv<int>(), mp::EOFError);
}

TEST_CASE("one-way ends keep their direction when sent") {
  auto [r, w] = mp::Pipe(false);
  auto [here, there] = mp::Pipe();
  here.send(w);
  here.send(r);
  auto w2 = there.recv<mp::Connection>();
  auto r2 = there.recv<mp::Connection>();
  CHECK(r2.readable());
  CHECK_FALSE(r2.writable());
  CHECK(w2.writable());
  CHECK_FALSE(w2.readable());
  w2.send("x"s);
  CHECK(r2.recv<std::string>() == "x");
}

TEST_CASE("an undelivered connection that is dropped counts as closed") {
  auto [a, b] = mp::Pipe();
  {
    mp::Queue<mp::Connection> queue;
    queue.put(b);
    b.close();
  }
  CHECK(a.poll(1s));
  CHECK_THROWS_AS(a.recv<int>(), mp::EOFError);
}

TEST_CASE("a sibling that merely inherited an end does not hold the end of file back") {
  auto [a, b] = mp::Pipe();
  auto [go_here, go_there] = mp::Pipe();
  Child sibling([go = go_there]() mutable { return go.recv<int>(); });  // has copies of a and b in its memory
  Child child([b = b]() mutable {
    b.send(1);
    return 0;
  });
  b.close();
  CHECK(a.recv<int>() == 1);
  CHECK_THROWS_AS(a.recv<int>(), mp::EOFError);
  go_here.send(3);
  CHECK(sibling.join() == 3);
  CHECK(child.join() == 0);
}

TEST_CASE("an inherited end opens with its first use in the child") {
  auto [a, b] = mp::Pipe();
  Child child([&] {
    b.send(1);
    return b.recv<int>();
  });
  CHECK(a.recv<int>() == 1);
  b.close();  // the child has it open by now
  a.send(5);
  CHECK(child.join() == 5);
  CHECK_THROWS_AS(a.recv<int>(), mp::EOFError);
}

TEST_CASE("an end that was given to a child is open before the child has run, and gone when it drops it") {
  auto [a, b] = mp::Pipe();
  auto [go_here, go_there] = mp::Pipe();
  Child child([b = b, go = go_there]() mutable {
    go.recv<int>();
    b.close();
    go.recv<int>();
    return 0;
  });
  b.close();
  a.send(1);
  CHECK_FALSE(a.poll(30ms));
  go_here.send(1);
  CHECK(a.poll(5s));
  CHECK_THROWS_AS(a.recv<int>(), mp::EOFError);
  go_here.send(2);
  CHECK(child.join() == 0);
}

TEST_CASE("a killed peer is noticed within 50 ms by who receives and by who sends") {
  for (bool receive : {true, false}) {
    CAPTURE(receive);
    auto [a, b] = mp::Pipe();
    Child child([b = b]() mutable {
      b.send(1);
      for (;;) ::pause();
      return 0;
    });
    b.close();
    CHECK(a.recv<int>() == 1);
    child.kill();
    child.join();
    const auto begin = std::chrono::steady_clock::now();
    if (receive) {
      CHECK_THROWS_AS(a.recv<int>(), mp::EOFError);
    } else {
      CHECK_THROWS_AS(for (;;) a.send(std::string(1000, 'x')), mp::BrokenPipeError);
    }
    CHECK(std::chrono::steady_clock::now() - begin < 200ms);  // 50 promised, on a machine that does nothing else
  }
}

TEST_CASE("the first send to a reader that was killed in its sleep says so") {
  auto [a, b] = mp::Pipe();
  Child child([b = b]() mutable {
    b.send(1);
    b.recv<int>();
    return 0;
  });
  b.close();
  CHECK(a.recv<int>() == 1);
  const auto limit = std::chrono::steady_clock::now() + 10s;
  while (test::state_of(child.pid()) != 'S' && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
  child.kill();
  child.join();
  std::this_thread::sleep_for(30ms);  // the kernel is asked once a slice at most
  CHECK_THROWS_AS(a.send(1), mp::BrokenPipeError);
}

TEST_CASE("fileno is readable when poll is true, and only then") {
  auto [a, b] = mp::Pipe();
  const int fd = b.fileno();
  CHECK(b.fileno() == fd);
  for (int round = 0; round < 50; ++round) {
    CHECK_FALSE(fd_readable(fd, 0));
    a.send(round);
    a.send(round);
    REQUIRE(fd_readable(fd, 5000));
    CHECK(b.recv<int>() == round);
    CHECK(fd_readable(fd, 0));
    CHECK(b.recv<int>() == round);
  }
  CHECK_FALSE(fd_readable(fd, 0));
  a.close();
  CHECK(fd_readable(fd, 5000));
  CHECK_THROWS_AS(b.recv<int>(), mp::EOFError);
  CHECK(fd_readable(fd, 0));
}

TEST_CASE("fileno works in epoll, fed by other processes, until they die") {
  constexpr int kPipes = 3;
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  std::vector<mp::Connection> ends;
  std::vector<Child> children;
  for (int i = 0; i < kPipes; ++i) {
    auto [a, b] = mp::Pipe();
    ends.push_back(std::move(a));
    children.emplace_back([b = std::move(b), i]() mutable {
      for (int n = 0; n < 200; ++n) b.send(n);
      if (i == 0)
        for (;;) ::pause();
      return 0;
    });
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u32 = static_cast<unsigned>(i);
    REQUIRE(::epoll_ctl(epoll, EPOLL_CTL_ADD, ends.back().fileno(), &event) == 0);
  }
  std::vector<int> next(kPipes, 0);
  int open = kPipes;
  while (open > 0) {
    epoll_event event{};
    REQUIRE(::epoll_wait(epoll, &event, 1, 5000) == 1);
    const std::size_t i = event.data.u32;
    REQUIRE(ends[i].poll());
    try {
      const int got = ends[i].recv<int>();
      REQUIRE(got == next[i]);
      if (++next[i] == 200 && i == 0) children[0].kill();
    } catch (const mp::EOFError&) {
      CHECK(next[i] == 200);
      ::epoll_ctl(epoll, EPOLL_CTL_DEL, ends[i].fileno(), nullptr);
      ends[i].close();
      --open;
    }
  }
  ::close(epoll);
}

TEST_CASE("a child has a doorbell of its own") {
  auto [a, b] = mp::Pipe();
  const int fd = a.fileno();
  CHECK_FALSE(fd_readable(fd, 0));
  Child child([b = b]() mutable {
    const int mine = b.fileno();
    if (!fd_readable(mine, 5000)) return 1;
    if (b.recv<int>() != 3) return 2;
    return fd_readable(mine, 0) ? 3 : 0;
  });
  a.send(3);
  CHECK(child.join() == 0);
}

TEST_CASE("several processes may send and receive at one end") {
  auto [jobs_in, jobs_out] = mp::Pipe(false);
  auto [results_in, results_out] = mp::Pipe(false);
  std::vector<Child> workers;
  for (int w = 0; w < 3; ++w)
    workers.emplace_back([in = jobs_in, out = results_out]() mutable {
      try {
        for (;;) out.send(in.recv<long>());
      } catch (const mp::EOFError&) {
        return 0;
      }
    });
  jobs_in.close();
  results_out.close();
  std::thread feeder([&] {
    for (long i = 0; i < 30'000; ++i) jobs_out.send(i);
    jobs_out.close();
  });
  std::vector<bool> seen(30'000);
  long count = 0;
  try {
    for (;; ++count) seen[static_cast<std::size_t>(results_in.recv<long>())] = true;
  } catch (const mp::EOFError&) {}
  feeder.join();
  CHECK(count == 30'000);
  CHECK(std::find(seen.begin(), seen.end(), false) == seen.end());
  for (Child& worker : workers) CHECK(worker.join() == 0);
}
