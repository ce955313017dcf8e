// What the machine itself can do: one cache line from core to core and back, spinning and with futexes; an ideal ring;
// memcpy; fork and posix_spawn bare. No design on this hardware is faster, so every ratio to these says what is left.
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "beside.hpp"
#include "channel_work.hpp"
#include "contender.hpp"
#include "pool_work.hpp"

namespace bench {
namespace {

using namespace std::chrono_literals;

void sleep_on(std::atomic<std::uint32_t>& word, std::uint32_t while_it_is, const timespec* at_most) {
  ::syscall(SYS_futex, &word, FUTEX_WAIT, while_it_is, at_most, nullptr, 0);
}
void wake(std::atomic<std::uint32_t>& word) { ::syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0); }

// Both words in one line: a ball is thrown as `to` counts up and comes back as `from` does.
struct alignas(64) Court {
  std::atomic<std::uint32_t> to{0}, from{0}, other_cpu{0};
};

void spinning(std::size_t count) {
  Court* court = shared<Court>();
  Beside other([court, count] {
    pin_to_cpu(1);
    for (std::uint32_t i = 1; i <= count; ++i) {
      while (court->to.load(std::memory_order_acquire) != i) relax();
      court->other_cpu.store(static_cast<std::uint32_t>(cpu()), std::memory_order_relaxed);
      court->from.store(i, std::memory_order_release);
    }
  });
  pin_to_cpu(0);
  std::uint32_t i = 0;
  auto once = [&] {
    court->to.store(++i, std::memory_order_release);
    while (court->from.load(std::memory_order_acquire) != i) relax();
  };
  for (int k = 0; k < 100; ++k) once();
  time_each(count - 200, 0us, once);
  note_cores([&] {
    once();
    return static_cast<int>(court->other_cpu.load(std::memory_order_relaxed));
  });
  while (i < count) once();
}
void spin() { spinning(size(200'000, 1000)); }

// `at_most`: how long a sleep may be, each being a timer of the kernel's then; null = for ever.
void futex(std::size_t count, std::chrono::microseconds gap, bool apart = false, const timespec* at_most = nullptr) {
  Court* court = shared<Court>();
  Beside other([court, count, apart, at_most] {
    if (apart) pin_to_cpu(1);
    for (std::uint32_t i = 1; i <= count; ++i) {
      for (std::uint32_t seen; (seen = court->to.load(std::memory_order_acquire)) != i;)
        sleep_on(court->to, seen, at_most);
      court->other_cpu.store(static_cast<std::uint32_t>(cpu()), std::memory_order_relaxed);
      court->from.store(i, std::memory_order_release);
      wake(court->from);
    }
  });
  if (apart) pin_to_cpu(0);
  std::uint32_t i = 0;
  auto once = [&] {
    court->to.store(++i, std::memory_order_release);
    wake(court->to);
    for (std::uint32_t seen; (seen = court->from.load(std::memory_order_acquire)) != i;)
      sleep_on(court->from, seen, at_most);
  };
  time_each(count - 50, gap, once);
  note_cores([&] {
    once();
    return static_cast<int>(court->other_cpu.load(std::memory_order_relaxed));
  });
  while (i < count) once();
}
void futex_parked() { futex(size(650, 60), 1000us); }
// The same for who does not count on being woken: a partner that is killed before it wakes anybody is found by looking, and so no
// sleep is longer than 20 ms. What has to survive that cannot do without these timers.
void futex_slices() {
  static constexpr timespec kSlice{0, 20'000'000};
  futex(size(650, 60), 1000us, false, &kSlice);
}
void futex_two_cores() { futex(size(650, 60), 1000us, true); }
void futex_same_core() {
  pin_to_cpu(0);
  futex(size(10'000, 100), 0us);
}

// An ideal ring: one producer, one consumer, each with its own index in its own line and a copy of the other's, on two cores.
// Published every `batch` messages; nobody sleeps, nobody can die, no message is longer than a slot.
template <class T, std::size_t Slots>
class Ring {
 public:
  void put(const T& item, std::size_t batch = 1) {
    while (put_ - seen_head_ == Slots) {
      seen_head_ = head_.load(std::memory_order_acquire);
      if (put_ - seen_head_ == Slots) relax();
    }
    slots_[put_ % Slots] = item;
    if (++put_ % batch == 0) tail_.store(put_, std::memory_order_release);
  }
  void get(T& item, std::size_t batch = 1) {
    while (taken_ == seen_tail_) {
      seen_tail_ = tail_.load(std::memory_order_acquire);
      if (taken_ == seen_tail_) relax();
    }
    item = slots_[taken_ % Slots];
    if (++taken_ % batch == 0) head_.store(taken_, std::memory_order_release);
  }

 private:
  alignas(64) std::atomic<std::size_t> tail_{0};
  alignas(64) std::size_t put_ = 0, seen_head_ = 0;
  alignas(64) std::atomic<std::size_t> head_{0};
  alignas(64) std::size_t taken_ = 0, seen_tail_ = 0;
  alignas(64) T slots_[Slots];
};

// The last batch must be full.
template <class T, std::size_t Slots>
void through_ring(std::size_t count, std::size_t batch) {
  count = count / batch * batch;
  auto* ring = shared<Ring<T, Slots>>();
  auto* done = shared<Ring<long, 8>>();
  Beside consumer([=] {
    pin_to_cpu(1);
    static T item;
    done->put(0);
    for (std::size_t n = 0; n < count; ++n) {
      ring->get(item, batch);
      keep(item);
      far_side(n);
    }
    done->put(0);
  });
  pin_to_cpu(0);
  long word;
  done->get(word);
  static T item{};
  time_per(count, [&] {
    for (std::size_t n = 0; n < count; ++n) {
      keep(item);
      ring->put(item, batch);
      near_side(n);
    }
    done->get(word);
  });
}
void ring() { through_ring<long, 1024>(size(5'000'000, 2000), 1); }
void ring_kib() { through_ring<Kib, 64>(size(500'000, 1024), 1); }
void memcpy_kib() { through_ring<Kib, 64>(size(500'000, 1024), 32); }

// What a stream of tasks cannot do without: a line of words there, worked on, and a line of words back.
void ring_and_back() {
  std::size_t count = size(2'000'000, 2000);
  auto* there = shared<Ring<long, 1024>>();
  auto* back = shared<Ring<long, 1024>>();
  Beside worker([=] {
    pin_to_cpu(1);
    for (std::size_t n = 0; n < count; ++n) {
      long word;
      there->get(word);
      back->put(next_in_stream(word));
    }
  });
  pin_to_cpu(0);
  time_per(count, [&] {
    long word;
    for (std::size_t n = 0; n < count; ++n) {
      if (n >= kInFlight / 2) back->get(word);
      there->put(static_cast<long>(n));
      near_side(n);
    }
    for (std::size_t n = 0; n < std::min(count, kInFlight / 2); ++n) back->get(word);
  });
}

// How the time for a task grows with tasks queued where there is no pool: a line for each, written by one process, worked on by
// another as soon as it is there, read again by the first. Memory that is used for the first time costs both of them.
struct alignas(64) Line {
  std::atomic<long> task{0}, result{0};
};

// Nanoseconds a task: the first time, or again, in memory that was used before; few are then repeated. As in the pool.
double queued_time(std::size_t count, bool first) {
  const std::size_t passes = first ? 1 : std::max<std::size_t>(1, size(300'000, 1000) / count), warm = first ? 0 : 1;
  const std::size_t bytes = count * sizeof(Line);
  void* pages = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  auto* lines = static_cast<Line*>(pages);
  Beside worker([=] {
    pin_to_cpu(1);
    for (std::size_t n = 0; n < (warm + passes) * count; ++n) {
      Line& line = lines[n % count];
      const long task = static_cast<long>(n) + 1;
      while (line.task.load(std::memory_order_acquire) != task) relax();
      line.result.store(next(task), std::memory_order_release);
    }
  });
  pin_to_cpu(0);
  long n = 0;
  auto pass = [&] {
    for (std::size_t i = 0; i < count; ++i)
      lines[i].task.store(n + static_cast<long>(i) + 1, std::memory_order_release);
    for (std::size_t i = 0; i < count; ++i)
      while (lines[i].result.load(std::memory_order_acquire) != n + static_cast<long>(i) + 2) relax();
    n += static_cast<long>(count);
  };
  if (warm) pass();
  auto begin = Clock::now();
  for (std::size_t i = 0; i < passes; ++i) pass();
  const double each = nanoseconds(Clock::now() - begin) / static_cast<double>(passes * count);
  worker.join();
  ::munmap(pages, bytes);
  return each;
}

void queued(std::size_t from, bool first) {
  std::vector<double> each;
  for (std::size_t count = from; count <= 10'000'000; count *= 10)
    each.push_back(queued_time(std::min(count, size(count, 1000)), first));
  auto [least, most] = std::minmax_element(each.begin(), each.end());
  print("value", *most / *least);
}

// 1 KiB into a buffer and out of it, by one process: no other core has to see it.
void memcpy_one_core() {
  std::size_t count = size(1'000'000, 1000);
  static Kib in, out, buffer[64];
  time_per(count, [&] {
    for (std::size_t n = 0; n < count; ++n) {
      keep(in);
      buffer[n % 64] = in;
      keep(buffer);
      out = buffer[n % 64];
      keep(out);
    }
  });
}

// The map without a pool: one loop over the input into an output made for it.
void map_ints() {
  std::size_t count = size(1'000'000, 2000);
  auto numbers = counting_up(count);
  time_map(count, [&] {
    std::vector<long> out(count);
    for (std::size_t i = 0; i < count; ++i) out[i] = next(numbers[i]);
    check_sum(out, count);
  });
}

// One process does it all, and the time is divided by what the others have in workers.
void prime() {
  time_primes(kWorkers, [](const auto& numbers) { return std::ranges::count_if(numbers, is_prime); });
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using namespace bench;
  return contend(argc, argv,
                 {{{"spin", spin},
                   {"parked", futex_parked},
                   {"parked-slices", futex_slices},
                   {"parked-two-cores", futex_two_cores},
                   {"same-core", futex_same_core},
                   {"ring", ring},
                   {"ring-kib", ring_kib},
                   {"memcpy-kib", memcpy_kib},
                   {"memcpy-one-core", memcpy_one_core},
                   {"ring-and-back", ring_and_back},
                   {"queued", [] { queued(1000, false); }},
                   {"queued-first", [] { queued(10'000, true); }},
                   {"map-ints", map_ints},
                   {"prime", prime}}});
}
