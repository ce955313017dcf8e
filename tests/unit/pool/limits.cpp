// Limits of tasks: what goes past one ends alone, in an error that names the limit, and the pool goes on. No limit of memory is passed under
// the address sanitizer, whose allocator knows of no std::bad_alloc.
#include <mp/pool/executor.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <mp/errors.hpp>
#include <mp/os/call.hpp>
#include <mp/sync/value.hpp>

#include "sanitized.hpp"

using namespace std::chrono_literals;

namespace limits {

constexpr std::size_t kMiB = 1u << 20;

int square(int x) { return x * x; }
pid_t who() { return ::getpid(); }

[[gnu::noinline]] void spin_for_ever() {
  volatile bool never = false;
  while (!never) {}
}
int spin() {
  spin_for_ever();
  return 0;
}
int sleep_for_ever() {
  for (;;) ::pause();
}
// Touches what it takes, bit by bit, so that it is at its limit and not far from it when it is refused.
int eat(std::size_t bytes) {
  std::vector<std::vector<char>> pieces;
  for (std::size_t all = 0; all < bytes; all += kMiB) pieces.emplace_back(kMiB, 'x');
  return static_cast<int>(pieces.size());
}
[[gnu::noinline]] void write_file(const std::string& path, std::size_t bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  const std::vector<char> block(4096, 'x');
  for (std::size_t all = 0; all < bytes; all += block.size())
    if (::write(fd, block.data(), block.size()) < 0) throw mp::OSError(errno, "write", path);
  ::close(fd);
}
int write_bytes(const std::string& path, std::size_t bytes) {
  write_file(path, bytes);
  return 1;
}

class TemporaryFile {
 public:
  TemporaryFile() : path_(std::filesystem::temp_directory_path() / ("mp-limits-" + std::to_string(::getpid()))) {}
  ~TemporaryFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// How a task ended that should go past a limit: E's details; nothing if it ended otherwise.
template <class E, class Future>
std::optional<mp::CrashDetails> end_of(Future future) {
  try {
    future.result(100s);
  } catch (const E& e) {
    CHECK(has(e.what(), std::string(mp::to_string(e.details().limit)) + " limit of "));
    return e.details();
  } catch (const std::exception& e) {
    FAIL_CHECK(e.what());
  }
  return std::nullopt;
}

void mask_cpu_signal(int how) {
  sigset_t cpu;
  ::sigemptyset(&cpu);
  ::sigaddset(&cpu, SIGXCPU);
  ::sigprocmask(how, &cpu, nullptr);
}

int refuse_setrlimit(mp::os::Call call) noexcept { return call == mp::os::Call::setrlimit ? EPERM : 0; }

}  // namespace limits

using namespace limits;

TEST_CASE("a limit of wall time ends the task, which says where it was") {
  mp::ProcessPoolExecutor pool(1);
  for (const mp::TaskOptions& options :
       {mp::TaskOptions{.name = "by limits", .limits = {.wall_time = 100ms}},
        mp::TaskOptions{.timeout = 100ms, .name = "by timeout"},
        mp::TaskOptions{.timeout = 100s, .name = "by the shorter", .limits = {.wall_time = 100ms}}}) {
    CAPTURE(options.name);
    const pid_t worker = pool.submit(who).result(60s);
    const auto end = end_of<mp::TaskTimeout>(pool.submit(options, spin));
    REQUIRE(end);
    CHECK(end->limit == mp::Limit::wall_time);
    CHECK(end->allowed == 100'000'000);
    CHECK(end->used >= 100'000'000);
    CHECK(end->task_name == options.name);
    CHECK(end->pid == worker);
    CHECK(has(end->function, "limits::spin()"));
    // Half a second is given to a worker for that; if it was not enough on a busy machine, it was killed.
    if (end->signal == SIGXCPU) CHECK(has(end->stack.text(), "limits::spin_for_ever()"));
    else CHECK(end->signal == SIGKILL);
  }
  CHECK_THROWS_AS(pool.submit(mp::TaskOptions{.timeout = 50ms}, sleep_for_ever).result(60s), mp::TimeoutError);
  CHECK(pool.submit(square, 3).result(60s) == 9);
}

TEST_CASE("a task that blocks signals does not outlive its limit") {
  mp::ProcessPoolExecutor pool(1);
  const auto end = end_of<mp::TaskTimeout>(pool.submit(mp::TaskOptions{.timeout = 50ms}, [] {
    sigset_t all;
    ::sigfillset(&all);
    ::sigprocmask(SIG_SETMASK, &all, nullptr);
    spin_for_ever();
  }));
  REQUIRE(end);
  CHECK(end->signal == SIGKILL);
  CHECK(end->stack.frames.empty());
  CHECK(end->used >= 50'000'000);
  CHECK(pool.submit(square, 3).result(60s) == 9);
}

TEST_CASE("the order to end that comes too late for a task harms no other") {
  mp::ProcessPoolExecutor pool(1);
  auto late = pool.submit(mp::TaskOptions{.timeout = 50ms}, [] {
    mask_cpu_signal(SIG_BLOCK);
    sigset_t pending;
    do ::sigpending(&pending);
    while (!::sigismember(&pending, SIGXCPU));
    return ::getpid();
  });
  std::optional<pid_t> worker;
  try {
    worker = late.result(60s);
  } catch (const mp::TimeoutError&) {
    // The machine was so busy that half a second more was over, too.
  }
  auto next = pool.submit(mp::TaskOptions{.timeout = 100s}, [] {
    mask_cpu_signal(SIG_UNBLOCK);
    sigset_t pending;
    ::sigpending(&pending);
    return std::pair(::getpid(), ::sigismember(&pending, SIGXCPU));
  });
  const auto [pid, pending] = next.result(60s);
  CHECK(pending == 0);
  if (worker) CHECK(pid == *worker);
}

TEST_CASE("a limit of CPU time counts what is computed, not what is slept") {
  mp::ProcessPoolExecutor pool(1);
  const mp::TaskOptions options{.limits = {.cpu_time = 300ms}};
  CHECK(pool.submit(options,
                    [] {
                      std::this_thread::sleep_for(500ms);
                      return 5;
                    })
            .result(60s) == 5);
  for (int round = 0; round < 2; ++round) {  // the second time in a worker whose clock begins anew
    const auto end = end_of<mp::LimitExceeded>(pool.submit(options, spin));
    REQUIRE(end);
    CHECK(end->limit == mp::Limit::cpu_time);
    CHECK(end->allowed == 300'000'000);
    CHECK(end->used >= 300'000'000);
    CHECK(end->usage.user_time + end->usage.system_time >= 200'000'000);
    if (end->signal == SIGXCPU) CHECK(has(end->stack.text(), "limits::spin_for_ever()"));
    else CHECK(end->signal == SIGKILL);
  }
  CHECK(pool.submit(square, 3).result(60s) == 9);
}

TEST_CASE("each attempt has the whole limit of CPU time") {
  mp::ProcessPoolExecutor pool(1);
  const mp::TaskOptions options{.limits = {.cpu_time = 1s}};
  const auto burn = [] {
    timespec begin, now;
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
    do ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1'000'000 < 400);
    return ::getpid();
  };
  const pid_t worker = pool.submit(options, burn).result(60s);
  for (int i = 0; i < 3; ++i) CHECK(pool.submit(options, burn).result(60s) == worker);
}

TEST_CASE("a limit of memory refuses what is beyond it, and the worker lives on") {
  mp::ProcessPoolExecutor pool(1);
  const mp::TaskOptions options{.name = "eater", .limits = {.memory = 64 * kMiB}};
  CHECK(pool.submit(options, eat, 16 * kMiB).result(60s) == 16);
  if (test::kAddressSanitized) return;  // its report of the refusal needs memory itself, and may wait for it for ever
  const pid_t worker = pool.submit(who).result(60s);
  const auto end = end_of<mp::LimitExceeded>(pool.submit(options, eat, 4096 * kMiB));
  REQUIRE(end);
  CHECK(end->limit == mp::Limit::memory);
  CHECK(end->allowed == 64 * kMiB);
  CHECK(end->used > 32 * kMiB);
  CHECK(end->used <= 65 * kMiB);
  CHECK(end->signal == 0);
  CHECK(end->task_name == "eater");
  CHECK(end->task == 3);
  CHECK(end->pid == worker);
  CHECK(end->worker.ends_with("-1"));
  CHECK(end->usage.peak_memory > 32 * kMiB);
  CHECK(has(end->stack.text(), "limits::eat(unsigned long)"));
  // No longer in force, neither for the worker nor for the next task.
  CHECK(pool.submit(eat, 128 * kMiB).result(60s) == 128);
  CHECK(pool.submit(options, who).result(60s) == worker);
  // A task may do without.
  CHECK(pool.submit(options,
                    [] {
                      try {
                        return eat(4096 * kMiB);
                      } catch (const std::bad_alloc&) {
                        return -1;
                      }
                    })
            .result(60s) == -1);
  CHECK(pool.submit(options,
                    [] {
                      void* volatile block = std::malloc(256 * kMiB);  // seen, or a compiler would do without it
                      return block == nullptr;
                    })
            .result(60s));
  // std::bad_alloc of a task's own making is no limit's.
  CHECK_THROWS_AS(pool.submit(options, [] { throw std::bad_alloc(); }).result(60s), std::bad_alloc);
  CHECK(pool.submit(who).result(60s) == worker);
}

TEST_CASE("a limit of file size ends the task that writes beyond it") {
  mp::ProcessPoolExecutor pool(1);
  TemporaryFile file;
  const mp::TaskOptions options{.limits = {.file_size = 100'000}};
  CHECK(pool.submit(options, write_bytes, file.path(), std::size_t{90'000}).result(60s) == 1);
  const auto end = end_of<mp::LimitExceeded>(pool.submit(options, write_bytes, file.path(), 2 * kMiB));
  REQUIRE(end);
  CHECK(end->limit == mp::Limit::file_size);
  CHECK(end->allowed == 100'000);
  CHECK(end->signal == SIGXFSZ);
  CHECK(has(end->stack.text(), "limits::write_file("));
  CHECK(has(end->arguments, file.path()));
  CHECK(std::filesystem::file_size(file.path()) <= 100'000);
  CHECK(pool.submit(write_bytes, file.path(), 2 * kMiB).result(60s) == 1);
  // The family's shared memory is no file that it writes.
  CHECK(pool.submit(options, [] { return std::string(8 * kMiB, 'x'); }).result(60s).size() == 8 * kMiB);
  // No longer in force for the same worker's next task.
  const pid_t worker = pool.submit(options, who).result(60s);
  CHECK(pool.submit(write_bytes, file.path(), 2 * kMiB).result(60s) == 1);
  CHECK(pool.submit(who).result(60s) == worker);
}

TEST_CASE("a limit of output holds back a result beyond it, and the worker lives on") {
  mp::ProcessPoolExecutor pool(1);
  const auto make = [](std::size_t size) { return std::string(size, 'x'); };
  const pid_t worker = pool.submit(who).result(60s);
  for (unsigned retries : {0u, 1u}) {
    const mp::TaskOptions options{.retries = retries, .limits = {.output = 1000}};
    CHECK(pool.submit(options, make, std::size_t{900}).result(60s).size() == 900);
    for (const std::size_t size : {std::size_t{1001}, kMiB}) {
      const auto end = end_of<mp::LimitExceeded>(pool.submit(options, make, size));
      REQUIRE(end);
      CHECK(end->limit == mp::Limit::output);
      CHECK(end->allowed == 1000);
      CHECK(end->used > size);
      CHECK(end->used < size + 100);
      CHECK(end->pid == worker);
      CHECK(has(end->function, "lambda"));
    }
  }
  CHECK(pool.submit(who).result(60s) == worker);
}

TEST_CASE("a task that went past a limit is tried again as often as it may") {
  mp::ProcessPoolExecutor pool(1);
  mp::Value<int> attempts(0);
  const auto third_time = [attempts](int kind) mutable {
    if (++attempts % 3 != 0) {
      if (kind == 0) spin();
      return std::string(kMiB, 'x');
    }
    return std::string("done");
  };
  const mp::TaskOptions options{.retries = 2, .limits = {.cpu_time = 100ms, .output = 1000}};
  for (int kind : {0, 1}) CHECK(pool.submit(options, third_time, kind).result(100s) == "done");
  CHECK(attempts.value() == 6);
}

TEST_CASE("in a map each item has limits of its own, and only those past them are lost") {
  mp::ProcessPoolExecutor pool(2);
  std::vector<int> numbers(60);
  for (int i = 0; i < 60; ++i) numbers[static_cast<std::size_t>(i)] = i;
  // Outcome by item: 'v' a value, else the first letter of the limit.
  const auto outcomes = [](auto results) {
    std::string text;
    for (auto it = results.begin(); it != results.end(); ++it) {
      try {
        static_cast<void>(*it);
        text += 'v';
      } catch (const mp::LimitExceeded& e) {
        CHECK(e.details().item == text.size());
        text += mp::to_string(e.limit())[0];
      } catch (const mp::TaskTimeout& e) {
        CHECK(e.details().item == text.size());
        text += mp::to_string(e.limit())[0];
      }
    }
    return text;
  };
  std::string expected(60, 'v');
  expected[7] = 'C';
  // Plain numbers, which travel as arrays. One kind of time after the other: on a busy machine either may be over first.
  CHECK(outcomes(pool.map(
            mp::MapOptions{.chunksize = 20, .limits = {.cpu_time = 200ms}},
            [](int x) {
              if (x == 7) spin();
              return x;
            },
            numbers)) == expected);
  expected.assign(60, 'v');
  expected[33] = 'w';
  CHECK(outcomes(pool.map(
            mp::MapOptions{.chunksize = 20, .limits = {.wall_time = 3s}},
            [](int x) {
              if (x == 33) sleep_for_ever();
              return x;
            },
            numbers)) == expected);
  // Values of any size, which do not.
  std::vector<std::string> words(60, "word");
  TemporaryFile file;
  expected.assign(60, 'v');
  expected[11] = 'o';
  expected[12] = 'f';
  if (!test::kAddressSanitized) expected[45] = 'm';
  CHECK(outcomes(pool.map(
            mp::MapOptions{.chunksize = 20, .limits = {.memory = 64 * kMiB, .file_size = 10'000, .output = 1000}},
            mp::partial(
                [](const std::string& path, std::string word, int x) {
                  if (x == 11) return std::string(2000, 'x');
                  if (x == 12) write_file(path, kMiB);
                  if (x == 45 && !test::kAddressSanitized) word += std::to_string(eat(4096 * kMiB));
                  return word;
                },
                file.path()),
            words, numbers)) == expected);
  CHECK_THROWS_AS(pool.map(mp::MapOptions{.limits = {.output = 1}}, square, numbers), mp::ValueError);
  CHECK(pool.submit(square, 3).result(60s) == 9);
}

TEST_CASE("a task whose limits cannot be imposed does not run, and says so") {
  mp::os::fault_hook = refuse_setrlimit;
  mp::ProcessPoolExecutor pool(1);  // its workers inherit that
  mp::os::fault_hook = nullptr;
  CHECK_THROWS_WITH_AS(pool.submit(mp::TaskOptions{.limits = {.memory = kMiB}}, square, 3).result(60s),
                       doctest::Contains("rlimit"), mp::OSError);
  CHECK_THROWS_AS(pool.submit(mp::TaskOptions{.limits = {.file_size = 1}}, square, 3).result(60s), mp::OSError);
  CHECK(pool.submit(square, 3).result(60s) == 9);
}
