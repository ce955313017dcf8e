// What the machine itself can do: one cache line from core to core and back, spinning and with futexes; an ideal ring;
// memcpy; fork and posix_spawn bare. No design on this hardware is faster, so every ratio to these says what is left.
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <new>
#include <thread>

#include "contender.hpp"
#include "pool_work.hpp"

namespace bench {
namespace {

using namespace std::chrono_literals;

template <class T>
T* shared(std::size_t extra = 0) {
  void* page =
      ::mmap(nullptr, sizeof(T) + extra, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (page == MAP_FAILED) throw std::bad_alloc();
  return new (page) T();
}

// Another process that runs work() and ends; gone with this one at the latest.
template <class Work>
class Beside {
 public:
  explicit Beside(Work work) : pid_(::fork()) {
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    work();
    ::_exit(0);
  }
  ~Beside() { ::waitpid(pid_, nullptr, 0); }
  Beside(const Beside&) = delete;

 private:
  pid_t pid_;
};

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

void sleep_on(std::atomic<std::uint32_t>& word, std::uint32_t while_it_is) {
  ::syscall(SYS_futex, &word, FUTEX_WAIT, while_it_is, nullptr, nullptr, 0);
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

void futex(std::size_t count, std::chrono::microseconds gap, bool apart = false) {
  Court* court = shared<Court>();
  Beside other([court, count, apart] {
    if (apart) pin_to_cpu(1);
    for (std::uint32_t i = 1; i <= count; ++i) {
      for (std::uint32_t seen; (seen = court->to.load(std::memory_order_acquire)) != i;) sleep_on(court->to, seen);
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
    for (std::uint32_t seen; (seen = court->from.load(std::memory_order_acquire)) != i;) sleep_on(court->from, seen);
  };
  time_each(count - 50, gap, once);
  note_cores([&] {
    once();
    return static_cast<int>(court->other_cpu.load(std::memory_order_relaxed));
  });
  while (i < count) once();
}
void futex_parked() { futex(size(650, 60), 1000us); }
void futex_two_cores() { futex(size(650, 60), 1000us, true); }
void futex_same_core() {
  pin_to_cpu(0);
  futex(size(10'000, 100), 0us);
}

// The map without a pool: one loop over the input into an output made for it.
void map_ints() {
  std::size_t count = size(1'000'000, 2000);
  auto numbers = counting_up(count);
  auto once = [&] {
    std::vector<long> out(count);
    for (std::size_t i = 0; i < count; ++i) out[i] = next(numbers[i]);
    check_sum(out, count);
  };
  once();
  time_per(count, once);
}

// One process does it all.
void prime() {
  auto numbers = large_numbers(size(1000, 4));
  long primes = 0;
  auto begin = Clock::now();
  for (auto n : numbers) primes += is_prime(n);
  print("value", nanoseconds(Clock::now() - begin) / 1e6);
  keep(primes);
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using namespace bench;
  return contend(argc, argv,
                 {{{"spin", spin},
                   {"parked", futex_parked},
                   {"parked-two-cores", futex_two_cores},
                   {"same-core", futex_same_core},
                   {"map-ints", map_ints},
                   {"prime", prime}}});
}
