#include "contender.hpp"

#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <thread>

namespace {

// Seen by all processes that come from this one by fork.
struct Tally {
  std::atomic<bool> on;
  alignas(64) std::atomic<std::uint64_t> allocations;
  alignas(64) std::atomic<int> far_cpu{-1};
  alignas(64) std::atomic<unsigned> looks, apart;
};
Tally* const tally = [] {
  void* page = ::mmap(nullptr, sizeof(Tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return page == MAP_FAILED ? nullptr : new (page) Tally();
}();

bool is_quick = false;
bool counts_slowly = false;

void* allocate(std::size_t size, std::size_t alignment = 0) {
  if (tally && tally->on.load(std::memory_order_relaxed)) tally->allocations.fetch_add(1, std::memory_order_relaxed);
  void* p = alignment ? std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment)
                      : std::malloc(size ? size : 1);
  if (!p) throw std::bad_alloc();
  return p;
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void* operator new(std::size_t size, std::align_val_t a) { return allocate(size, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t size, std::align_val_t a) { return allocate(size, static_cast<std::size_t>(a)); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

namespace bench {

int contend(int argc, char** argv, std::initializer_list<std::vector<Entry>> tables) {
  is_quick = argc > 2 && std::strcmp(argv[2], "quick") == 0;
  for (const auto& table : tables) {
    for (const Entry& entry : table) {
      if (argc < 2 || std::strcmp(entry.name, argv[1]) != 0) continue;
      try {
        entry.run();
        std::fflush(stdout);
        return 0;
      } catch (const std::exception& e) {
        std::fprintf(stderr, "%s: %s\n", entry.name, e.what());
        return 1;
      }
    }
  }
  std::fprintf(stderr, "usage: %s CASE [quick]; cases:", argv[0]);
  for (const auto& table : tables)
    for (const Entry& entry : table) std::fprintf(stderr, " %s", entry.name);
  std::fprintf(stderr, "\n");
  return 2;
}

std::size_t size(std::size_t full, std::size_t quick) {
  return is_quick ? quick : counts_slowly ? std::max(full / 10, quick) : full;
}

// Flushed at once: nothing may wait in a buffer when a child is forked.
void print(const char* key, double value) {
  std::printf("%s %.9g\n", key, value);
  std::fflush(stdout);
}

void note(const std::string& text) {
  std::printf("note %s\n", text.c_str());
  std::fflush(stdout);
}

void print_latencies(std::vector<double> took) {
  if (took.empty()) return;
  std::sort(took.begin(), took.end());
  auto at = [&](double part) { return took[static_cast<std::size_t>(part * static_cast<double>(took.size() - 1))]; };
  print("value", at(0.5));
  print("p50", at(0.5));
  print("p99", at(0.99));
  print("p99.9", at(0.999));
  print("samples", static_cast<double>(took.size()));
}

long switches() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nvcsw;
}

void wait(std::chrono::microseconds gap) { std::this_thread::sleep_for(gap); }

void print_slept(long times, std::size_t calls) {
  print("slept-percent", std::clamp(100 * static_cast<double>(times) / static_cast<double>(calls), 0., 100.));
}

int cpu() { return ::sched_getcpu(); }

void leave_cpu() {
  if (tally) tally->far_cpu.store(cpu(), std::memory_order_relaxed);
}

void compare_cpu() {
  int far = tally ? tally->far_cpu.load(std::memory_order_relaxed) : -1;
  if (far < 0) return;
  tally->looks.fetch_add(1, std::memory_order_relaxed);
  if (far != cpu()) tally->apart.fetch_add(1, std::memory_order_relaxed);
}

void forget_cores() {
  if (!tally) return;
  tally->far_cpu.store(-1, std::memory_order_relaxed);
  tally->looks.store(0, std::memory_order_relaxed);
  tally->apart.store(0, std::memory_order_relaxed);
}

void print_cores() {
  if (tally && tally->looks != 0) print("two-cores-percent", 100. * tally->apart / tally->looks);
}

void pin_to_cpu(int nth) {
  cpu_set_t may, set;
  if (::sched_getaffinity(0, sizeof(may), &may) != 0) return;
  for (std::size_t i = 0; i < CPU_SETSIZE && nth >= 0; ++i) {
    if (!CPU_ISSET(i, &may)) continue;
    CPU_ZERO(&set);
    CPU_SET(i, &set);
    --nth;
  }
  ::sched_setaffinity(0, sizeof(set), &set);
}

// A tenth is enough to count, and a contender of many system calls takes as long for it under the tracer as for all without.
Counted::Counted() { counts_slowly = syscalls_.is_slow(); }

Counted::~Counted() { counts_slowly = false; }

void Counted::start() {
  if (tally) {
    tally->allocations = 0;
    tally->on = true;
  }
  syscalls_.start();
}

void Counted::stop(std::size_t count) {
  std::uint64_t calls = syscalls_.stop();
  if (tally) tally->on = false;
  if (syscalls_.way()) {
    print("syscalls", static_cast<double>(calls) / static_cast<double>(count));
    note(std::string("system calls counted by ") + syscalls_.way());
  } else {
    note("system calls not measurable here");
  }
  if (tally) print("allocations", static_cast<double>(tally->allocations) / static_cast<double>(count));
}

}  // namespace bench
