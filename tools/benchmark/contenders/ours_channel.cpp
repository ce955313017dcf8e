// Queues and pipes.
#include <mp/mp.hpp>

#include "channel_work.hpp"
#include "ours.hpp"

namespace bench {
namespace {

using namespace std::chrono_literals;

// `producers` + `consumers` processes; from the word to go until the last message was taken.
template <class T>
void through_queue(std::size_t count, unsigned producers, unsigned consumers) {
  Counted counted;
  mp::Queue<T> queue;
  mp::Barrier barrier(static_cast<int>(consumers + producers + 1));
  std::vector<mp::Process> team;
  for (unsigned i = 0; i < producers; ++i) {
    team.emplace_back([=]() mutable {
      T item{};
      for (int pass = 0; pass < 2; ++pass) {
        barrier.wait();
        for (std::size_t n = 0; n < count / producers; ++n) queue.put(item);
        barrier.wait();
      }
    });
  }
  for (unsigned i = 0; i < consumers; ++i) {
    team.emplace_back([=]() mutable {
      for (int pass = 0; pass < 2; ++pass) {
        barrier.wait();
        for (std::size_t n = 0; n < count / consumers; ++n) keep(queue.get());
        barrier.wait();
      }
    });
  }
  for (auto& process : team) process.start();
  auto pass = [&] {
    barrier.wait();
    barrier.wait();
  };
  time_per(count, pass);
  counted.per(count, pass);
  for (auto& process : team) process.join();
}
void one_to_one() { through_queue<long>(size(2'000'000, 2000), 1, 1); }
void two_to_two() { through_queue<long>(size(1'000'000, 2000), 2, 2); }
void kib() { through_queue<Kib>(size(300'000, 1000), 1, 1); }

void echo(mp::Connection end) {
  for (;;) {
    long word = end.recv<long>();
    if (word == kEnd) return;
    end.send(echo_of(word));
  }
}

void round_trip(std::size_t count, std::chrono::microseconds gap) {
  Counted counted;
  auto [here, there] = mp::Pipe();
  mp::Process other(echo, there);
  other.start();
  auto once = [&, &here = here](long word) {
    here.send(word);
    return here.recv<long>();
  };
  time_echo(count, gap, once);
  counted.per(count, [&] {
    for (std::size_t i = 0; i < count; ++i) keep(once(1));
  });
  here.send(kEnd);
  other.join();
}
void pipe_awake() { round_trip(size(50'000, 200), 0us); }
void pipe_parked() { round_trip(size(600, 10), 1000us); }
void pipe_same_core() {
  pin_to_cpu(0);
  round_trip(size(5000, 100), 0us);
}

void pipe_stream() {
  Counted counted;
  auto [here, there] = mp::Pipe();
  mp::Process other(
      [](mp::Connection end) {
        for (;;) {
          long word = end.recv<long>();
          if (word == kEnd) return;
          if (word == kWhere) end.send(word);
        }
      },
      there);
  other.start();
  std::size_t count = size(2'000'000, 2000);
  auto pass = [&, &here = here] {
    for (std::size_t i = 0; i < count; ++i) here.send(static_cast<long>(i));
    here.send(kWhere);
    keep(here.recv<long>());
  };
  time_per(count, pass);
  counted.per(count, pass);
  here.send(kEnd);
  other.join();
}

}  // namespace

std::vector<Entry> channel_entries() {
  return {{"queue-1to1", one_to_one},  {"queue-2to2", two_to_two},   {"queue-kib", kib},
          {"pipe-awake", pipe_awake},  {"pipe-parked", pipe_parked}, {"pipe-same-core", pipe_same_core},
          {"pipe-stream", pipe_stream}};
}

}  // namespace bench
