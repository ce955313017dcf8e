// Starting processes, and a large array to a worker and back. Times of starts are in microseconds.
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <system_error>

#include <mp/mp.hpp>

#include "ours.hpp"
#include "pool_work.hpp"

extern char** environ;

namespace bench {
namespace {

void nothing() {}

// The median, in microseconds, of what once() takes.
template <class Once>
void time_starts(std::size_t count, Once&& once) {
  std::vector<double> took;
  long before = 0;
  for (std::size_t i = 0; i < count + 2; ++i) {
    if (i == 2) before = switches();
    auto begin = Clock::now();
    once();
    if (i >= 2) took.push_back(nanoseconds(Clock::now() - begin) / 1000);
  }
  print_slept(switches() - before, count);
  print_latencies(std::move(took));
}

void start(mp::StartMethod method, std::size_t count) {
  mp::Context context = mp::get_context(method);
  time_starts(count, [&] {
    mp::Process process = context.Process(nothing);
    process.start();
    process.join();
  });
}
void fork_one() { start(mp::fork, size(300, 3)); }
void spawn_one() { start(mp::spawn, size(50, 2)); }
void forkserver_one() { start(mp::forkserver, size(200, 3)); }

// The same from a parent whose heap is 1 GiB of pages that it has written to.
std::unique_ptr<char[]> large_heap() {
  std::size_t bytes = size(std::size_t{1} << 30, 1 << 20);
  std::unique_ptr<char[]> heap(new char[bytes]);
  std::fill_n(heap.get(), bytes, 'x');
  return heap;
}
void fork_large() {
  auto heap = large_heap();
  start(mp::fork, size(20, 2));
  keep(heap[0]);
}
void forkserver_large() {
  auto heap = large_heap();
  start(mp::forkserver, size(200, 3));
  keep(heap[0]);
}

// The floors are taken in this very program, before it uses the library at all.
void fork_and_wait() {
  pid_t pid = ::fork();
  if (pid == 0) ::_exit(0);
  ::waitpid(pid, nullptr, 0);
}
void bare_fork() { time_starts(size(300, 3), fork_and_wait); }

// What can be no less where others shall know how a child ended: a descriptor that is readable then, whoever reaps the child, a word in
// shared memory, and handlers for its crash with a stack of their own.
void told_fork() {
  const std::size_t page = 4096;
  void* shared = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  auto& word = *new (shared) std::atomic<int>(0);
  static char other_stack[64 * 1024];
  time_starts(size(300, 3), [&] {
    const pid_t pid = ::fork();
    if (pid == 0) {
      stack_t stack{};
      stack.ss_sp = other_stack;
      stack.ss_size = sizeof other_stack;
      ::sigaltstack(&stack, nullptr);
      struct sigaction action{};
      action.sa_handler = [](int) { ::_exit(1); };
      action.sa_flags = SA_ONSTACK;
      for (int signal : {SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS})
        ::sigaction(signal, &action, nullptr);
      word.store(1, std::memory_order_release);
      ::_exit(0);
    }
    const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
    pollfd ended{fd, POLLIN, 0};
    ::poll(&ended, 1, -1);
    ::waitpid(pid, nullptr, 0);
    ::close(fd);
    if (word.exchange(0) != 1) note("NOT TOLD");
  });
  ::munmap(shared, page);
}

// On one CPU everything that a process does for another is waited for; on two, where the scheduler puts the child decides.
void fork_on_one_cpu() {
  pin_to_cpu(0);
  fork_one();
}
void bare_fork_on_one_cpu() {
  pin_to_cpu(0);
  bare_fork();
}
void told_fork_on_one_cpu() {
  pin_to_cpu(0);
  told_fork();
}
void bare_fork_large() {
  auto heap = large_heap();
  time_starts(size(20, 2), fork_and_wait);
  keep(heap[0]);
}
void bare_spawn() {
  char self[] = "/proc/self/exe", what[] = "nothing";
  char* arguments[] = {self, what, nullptr};
  time_starts(size(50, 2), [&] {
    pid_t pid;
    int error = ::posix_spawn(&pid, self, nullptr, nullptr, arguments, environ);
    if (error) throw std::system_error(error, std::generic_category());
    ::waitpid(pid, nullptr, 0);
  });
}

// Writes at both ends of the result, so that it is this task's; no byte of either array is copied. Times in microseconds.
using Numbers = mp::Array<double>;
Numbers work(Numbers in, Numbers out) {
  out[0] = in[0] + 1;
  out[out.size() - 1] = in[in.size() - 1] + 1;
  return out;
}
void array() {
  mp::ProcessPoolExecutor pool(kWorkers);
  std::size_t count = size((std::size_t{1} << 30) / sizeof(double), 1000);
  Numbers in(count), out(count);
  std::fill(in.begin(), in.end(), 1.0);
  std::fill(out.begin(), out.end(), 0.0);
  time_starts(size(2000, 10), [&] {
    Numbers back = pool.submit(work, in, out).result();
    if (back[back.size() - 1] != 2) note("WRONG RESULT");
  });
}

// A vector by value, which is copied in and out: 64 MiB there and back.
std::vector<double> plus_one(std::vector<double> numbers) {
  numbers[0] += 1;
  return numbers;
}
void vector() {
  mp::ProcessPoolExecutor pool(kWorkers);
  std::vector<double> numbers(size((std::size_t{64} << 20) / sizeof(double), 1000), 1.0);
  time_starts(size(8, 2), [&] {
    if (pool.submit(plus_one, numbers).result()[0] != 2) note("WRONG RESULT");
  });
}
void vector_floor() {
  std::vector<double> numbers(size((std::size_t{64} << 20) / sizeof(double), 1000), 1.0), there(numbers), back(numbers);
  time_starts(size(8, 2), [&] {
    std::copy(numbers.begin(), numbers.end(), there.begin());
    keep(there[0]);
    std::copy(there.begin(), there.end(), back.begin());
    keep(back[0]);
  });
}

}  // namespace

std::vector<Entry> process_entries() {
  return {{"fork", fork_one},
          {"spawn", spawn_one},
          {"forkserver", forkserver_one},
          {"fork-large", fork_large},
          {"forkserver-large", forkserver_large},
          {"fork-one-cpu", fork_on_one_cpu},
          {"bare-fork", bare_fork},
          {"bare-fork-one-cpu", bare_fork_on_one_cpu},
          {"told-fork", told_fork},
          {"told-fork-one-cpu", told_fork_on_one_cpu},
          {"bare-fork-large", bare_fork_large},
          {"bare-spawn", bare_spawn},
          {"array", array},
          {"vector", vector},
          {"vector-floor", vector_floor}};
}

}  // namespace bench
