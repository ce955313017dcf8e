// Queues and pipes.
#include <mp/mp.hpp>

#include "channel_work.hpp"
#include "ours.hpp"

namespace bench {
namespace {

using namespace std::chrono_literals;

// `producers` + `consumers` processes; from the word to go until the last message was taken.
template <class T, class Measure>
void measure_queue(Measure&& measure, std::size_t count, unsigned producers, unsigned consumers) {
  mp::Queue<T> queue;
  mp::Barrier barrier(static_cast<int>(consumers + producers + 1));
  std::vector<mp::Process> team;
  for (unsigned i = 0; i < producers; ++i) {
    team.emplace_back([=]() mutable {
      T item{};
      barrier.wait();
      for (std::size_t n = 0; n < count / producers; ++n) {
        queue.put(item);
        near_side(n);
      }
      barrier.wait();
    });
  }
  for (unsigned i = 0; i < consumers; ++i) {
    team.emplace_back([=]() mutable {
      barrier.wait();
      for (std::size_t n = 0; n < count / consumers; ++n) {
        keep(queue.get());
        far_side(n);
      }
      barrier.wait();
    });
  }
  for (auto& process : team) process.start();
  measure(count, [&] {
    barrier.wait();
    barrier.wait();
  });
  for (auto& process : team) process.join();
}
template <class T>
void through_queue(std::size_t count, unsigned producers, unsigned consumers) {
  time_then_count([=](auto measure) { measure_queue<T>(measure, count, producers, consumers); });
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

template <class Measure>
void with_echo(Measure&& measure) {
  auto [here, there] = mp::Pipe();
  mp::Process other(echo, there);
  other.start();
  measure([&, &here = here](long word) {
    here.send(word);
    return here.recv<long>();
  });
  here.send(kEnd);
  other.join();
}

void round_trip(std::size_t count, std::chrono::microseconds gap) {
  with_echo([&](auto once) { time_echo(count, gap, once); });
  Counted counted;
  with_echo([&](auto once) {
    counted.per(count, [&] {
      for (std::size_t i = 0; i < count; ++i) {
        if (gap.count()) wait(gap);
        keep(once(1));
      }
    });
  });
}
void pipe_awake() { round_trip(size(50'000, 200), 0us); }
void pipe_parked() { round_trip(size(600, 10), 1000us); }
void pipe_same_core() {
  pin_to_cpu(0);
  round_trip(size(5000, 100), 0us);
}

template <class Measure>
void measure_pipe(Measure&& measure) {
  auto [here, there] = mp::Pipe();
  mp::Process other(
      [](mp::Connection end) {
        for (;;) {
          long word = end.recv<long>();
          if (word == kEnd) return;
          if (word == kWhere) end.send(word);
          else far_side(static_cast<std::size_t>(word));
        }
      },
      there);
  other.start();
  std::size_t count = size(2'000'000, 2000);
  measure(count, [&, &here = here] {
    for (std::size_t i = 0; i < count; ++i) {
      here.send(static_cast<long>(i));
      near_side(i);
    }
    here.send(kWhere);
    keep(here.recv<long>());
  });
  here.send(kEnd);
  other.join();
}
void pipe_stream() {
  time_then_count([](auto measure) { measure_pipe(measure); });
}

}  // namespace

std::vector<Entry> channel_entries() {
  return {{"queue-1to1", one_to_one},  {"queue-2to2", two_to_two},   {"queue-kib", kib},
          {"pipe-awake", pipe_awake},  {"pipe-parked", pipe_parked}, {"pipe-same-core", pipe_same_core},
          {"pipe-stream", pipe_stream}};
}

}  // namespace bench
