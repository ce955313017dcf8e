// Memory of queued tasks and of idle pools, and how cost grows with workers and with tasks queued.
#include <unistd.h>

#include <algorithm>
#include <stdexcept>
#include <thread>

#include <mp/mp.hpp>

#include "family.hpp"
#include "ours.hpp"
#include "pool_work.hpp"

namespace bench {
namespace {

using namespace std::chrono_literals;

void hold(mp::Event open) { open.wait(); }

// A pool whose workers all wait, so that whatever is submitted stays in the queue until open().
class Gated {
 public:
  Gated() : pool(kWorkers) {
    for (unsigned i = 0; i < kWorkers; ++i) held_.push_back(pool.submit(hold, open_));
    while (!std::all_of(held_.begin(), held_.end(), [](auto& f) { return f.running(); })) wait(1000us);
  }
  ~Gated() { open(); }
  void open() { open_.set(); }
  mp::ProcessPoolExecutor pool;

 private:
  mp::Event open_;
  std::vector<mp::Future<void>> held_;
};

void need(std::uint64_t bytes) {
  if (available_memory() < bytes) throw std::runtime_error("this machine has not the memory for it");
}

// Bytes that each queued task costs the family, futures included.
void queued_bytes(std::size_t count) {
  need(count * 700);
  Gated gate;
  std::vector<mp::Future<long>> futures(count);
  auto before = family_memory();
  for (std::size_t i = 0; i < count; ++i) futures[i] = gate.pool.submit(next, static_cast<long>(i));
  auto after = family_memory();
  print("value", static_cast<double>(after - before) / static_cast<double>(count));
  gate.open();
  long sum = 0;
  for (auto& future : futures) sum += future.result();
  if (sum != static_cast<long>(count) * static_cast<long>(count + 1) / 2) note("WRONG SUM");
}

// Nanoseconds a task to post `count` tasks at once and to get all their results, in a pool whose workers are awake: `first`, which
// takes all the memory for them from the kernel, or again, once that is there; few are then repeated.
void queued_time(std::size_t count, bool first) {
  need(count * 700);
  mp::ProcessPoolExecutor pool(kWorkers);
  for (int i = 0; i < 100; ++i) keep(pool.submit(next, 1L).result());
  std::vector<mp::Future<long>> futures(count);
  auto pass = [&] {
    for (std::size_t i = 0; i < count; ++i) futures[i] = pool.submit(next, static_cast<long>(i));
    for (auto& future : futures) keep(future.result());
  };
  if (!first) pass();
  const std::size_t passes = first ? 1 : std::max<std::size_t>(1, size(300'000, 1000) / count);
  time_per(passes * count, [&] {
    for (std::size_t i = 0; i < passes; ++i) pass();
  });
}
void queued_first(std::size_t count) { queued_time(count, true); }
void queued_again(std::size_t count) { queued_time(count, false); }

// Tasks a second in a stream, once all workers are there and asleep.
void with_workers(unsigned workers) {
  mp::ProcessPoolExecutor pool(workers);
  auto submit = [&](long n) { return pool.submit(next, n); };
  keep(submit(1).result());
  wait(500ms);
  std::size_t count = size(2'000'000, 2000);
  stream_of(count / 10, submit);
  auto begin = Clock::now();
  stream_of(count, submit);
  print("value", static_cast<double>(count) / nanoseconds(Clock::now() - begin) * 1e9);
}

constexpr unsigned kMany = 64;

mp::ProcessPoolExecutor many_idle() {
  mp::ProcessPoolExecutor pool(kMany);
  for (unsigned i = 0; i < 4 * kMany; ++i) pool.submit(next, 1L).result();
  wait(500ms);
  return pool;
}

// The private pages of the worker that has most, in KiB: what it shares with its parent does not count.
void idle_private() {
  auto pool = many_idle();
  std::uint64_t most = 0;
  for (pid_t pid : pool.worker_pids()) most = std::max(most, smaps(pid, "Private_Clean") + smaps(pid, "Private_Dirty"));
  print("value", static_cast<double>(most) / 1024);
}

// Microseconds of CPU time that the whole pool uses in a second.
void idle_cpu() {
  auto pool = many_idle();
  auto all = descendants(::getpid());
  all.push_back(::getpid());
  auto before = cpu_time(all);
  auto begin = Clock::now();
  wait(std::chrono::milliseconds(size(2000, 100)));
  double seconds = nanoseconds(Clock::now() - begin) / 1e9;
  print("value", static_cast<double>(cpu_time(all) - before) / 1000 / seconds);
}

}  // namespace

std::vector<Entry> memory_entries() {
  return {{"queued-bytes", [] { queued_bytes(size(1'000'000, 2000)); }},
          {"idle-private", idle_private},
          {"idle-cpu", idle_cpu},
          {"workers-1", [] { with_workers(1); }},
          {"workers-2", [] { with_workers(2); }},
          {"workers-4", [] { with_workers(4); }},
          {"workers-8", [] { with_workers(8); }},
          {"workers-16", [] { with_workers(16); }},
          {"workers-64", [] { with_workers(64); }},
          {"queued-1e3", [] { queued_again(1000); }},
          {"queued-1e4", [] { queued_again(size(10'000, 1000)); }},
          {"queued-1e5", [] { queued_again(size(100'000, 1000)); }},
          {"queued-1e6", [] { queued_again(size(1'000'000, 1000)); }},
          {"queued-1e7", [] { queued_again(size(10'000'000, 1000)); }},
          {"queued-first-1e4", [] { queued_first(size(10'000, 1000)); }},
          {"queued-first-1e5", [] { queued_first(size(100'000, 1000)); }},
          {"queued-first-1e6", [] { queued_first(size(1'000'000, 1000)); }},
          {"queued-first-1e7", [] { queued_first(size(10'000'000, 1000)); }}};
}

}  // namespace bench
