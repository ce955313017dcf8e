// What the caller is told of a task that took its worker with it. Under the address sanitizer, whose handlers own the memory faults,
// those end in its own report and an abort(): what is promised then is SIGABRT.
#include <mp/pool/executor.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <mp/memory/ref.hpp>
#include <mp/os/oom.hpp>
#include <mp/os/signals.hpp>

#include "sanitized.hpp"

using namespace std::chrono_literals;

namespace reports {

int square(int x) { return x * x; }

struct Side {
  int row;
  std::string name;
};
enum class Colour { red = 1, green = 2 };

[[gnu::noinline]] __attribute__((no_sanitize("address", "undefined"))) int read_from(std::uintptr_t address) {
  return *reinterpret_cast<const volatile int*>(address);
}
constexpr int kReadLine = __LINE__ - 2;
[[gnu::noinline]] __attribute__((no_sanitize("address", "undefined"))) void write_to(std::uintptr_t address) {
  *reinterpret_cast<volatile char*>(address) = 1;
}
int crash_at(int address, const std::string&) { return read_from(static_cast<std::uintptr_t>(address)) + 1; }

[[gnu::noinline]] int overflow(volatile int* depth) {
  volatile char frame[1000];
  frame[0] = static_cast<char>(*depth);
  *depth = *depth + 1;
  if (*depth < 0) return 0;  // never so deep
  return overflow(depth) + frame[0];
}
int overflow_stack(int depth) { return overflow(&depth); }

[[gnu::noinline]] void abort_here() { std::abort(); }
constexpr int kAbortLine = __LINE__ - 1;

[[gnu::noinline]] void throw_here() { throw std::logic_error("no way"); }
[[gnu::noinline]] void throw_number(int n) { throw n; }
void terminate_by_exception() noexcept { throw_here(); }
constexpr char kConstant[] = "constant";

void burn(std::chrono::nanoseconds time) {
  timespec t;
  const auto used = [&t] {
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
  };
  const auto end = used() + time;
  while (used() < end) {}
}

// What a task's crash is told as; nothing if it did not crash.
template <class Future>
std::optional<mp::CrashDetails> crash_of(Future future) {
  try {
    future.result(60s);
  } catch (const mp::WorkerCrashed& e) {
    CAPTURE(e.report());
    CHECK(e.report().starts_with(e.headline()));
    return e.details();
  }
  return std::nullopt;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace reports

using namespace reports;

TEST_CASE("a crash is told with signal, code, address, stack, call, worker and what it has used") {
  mp::ProcessPoolExecutor pool(1);
  CHECK(pool.submit(square, 2).result() == 4);
  const pid_t worker = pool.worker_pids().at(0);
  const auto crash = crash_of(pool.submit(mp::TaskOptions{.name = "left one"}, crash_at, 16, std::string("le\"ft")));
  REQUIRE(crash);
  CHECK(crash->task == 2);
  CHECK(crash->task_name == "left one");
  CHECK(crash->function.starts_with("reports::crash_at(int"));
  CHECK(crash->arguments == "(16, \"le\\\"ft\")");
  CHECK_FALSE(crash->item);
  CHECK(has(crash->worker, "-1"));
  CHECK(crash->pid == worker);
  CHECK(crash->exit_status == 0);
  CHECK(crash->usage.peak_memory > 1'000'000);
  CHECK(crash->usage.minor_faults > 0);
  CHECK_FALSE(crash->terminated);
  CHECK_FALSE(crash->oom_kills);
  CHECK(crash->limit == mp::Limit::none);
  if (test::kAddressSanitized) {
    CHECK(crash->signal == SIGABRT);
  } else {
    CHECK(crash->signal == SIGSEGV);
    CHECK(mp::os::signal_name(crash->signal) == "SIGSEGV");
    CHECK(mp::os::signal_code_name(crash->signal, crash->code) == "SEGV_MAPERR");
    CHECK(crash->address == 16);
    CHECK(crash->mapping == "unmapped");
    const std::string stack = crash->stack.text();
    CAPTURE(stack);
    CHECK(stack.starts_with("#0 reports::read_from(unsigned long) reports.cpp:" + std::to_string(kReadLine) + '\n'));
    CHECK(has(stack, "reports::crash_at(int"));
    const std::string report = mp::WorkerCrashed(*crash).report();
    CAPTURE(report);
    for (const char* line : {"task 2 \"left one\" reports::crash_at(int", "with (16, \"le\\\"ft\") crashed",
                             "\n  signal     SIGSEGV (SEGV_MAPERR)", "\n  address    0x10: unmapped", "\n  worker     ",
                             "\n  used       ", "\n  stack\n    #0 reports::read_from"})
      CHECK_MESSAGE(has(report, line), line);
  }
  CHECK(pool.submit(square, 3).result(60s) == 9);
}

TEST_CASE("a stack overflow is told as one, in which thread of its owner the pool may have been made") {
  const auto check = [] {
    mp::ProcessPoolExecutor pool(1);
    const auto crash = crash_of(pool.submit(overflow_stack, 0));
    REQUIRE(crash);
    if (test::kAddressSanitized) {
      CHECK(crash->signal == SIGABRT);
    } else {
      CHECK(crash->signal == SIGSEGV);
      CHECK(crash->mapping == "stack guard of the main thread");
      CHECK(mp::crash_cause(*crash) == "SIGSEGV, stack overflow");
      CHECK(has(crash->stack.text(), "reports::overflow(int volatile*)"));
    }
    CHECK(pool.submit(square, 3).result(60s) == 9);
  };
  check();
  std::optional<std::string> failure;
  std::thread([&] {
    try {
      check();
    } catch (const std::exception& e) {
      failure = e.what();
    }
  }).join();
  CHECK_FALSE(failure);
}

TEST_CASE("a fault address is told by what lies there") {
  if (test::kAddressSanitized) return;
  mp::ProcessPoolExecutor pool(1);
  {
    const auto crash = crash_of(pool.submit([] { write_to(reinterpret_cast<std::uintptr_t>(&kConstant[0])); }));
    REQUIRE(crash);
    CHECK(mp::os::signal_code_name(crash->signal, crash->code) == "SEGV_ACCERR");
    CHECK(has(crash->mapping, std::filesystem::read_symlink("/proc/self/exe").string() + " (r"));
  }
  {
    const auto crash = crash_of(pool.submit([] {
      // The end of the heap, which is not to be executed. A block of malloc's may be of another thread's arena.
      reinterpret_cast<void (*)()>(reinterpret_cast<std::uintptr_t>(::sbrk(0)) - 64)();
    }));
    REQUIRE(crash);
    CHECK(crash->mapping == "[heap] (rw-p)");
  }
  {
    const auto crash = crash_of(pool.submit([] {
      const auto shared = mp::memory::create<int>(mp::memory::Kind::value, 0, 0);
      reinterpret_cast<void (*)()>(reinterpret_cast<std::uintptr_t>(mp::memory::at<int>(shared.offset())))();
    }));
    REQUIRE(crash);
    CHECK(crash->mapping == "shared memory of the family");
  }
  {
    const auto crash = crash_of(pool.submit([] {
      const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
      auto* two =
          static_cast<char*>(::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
      ::munmap(two + page, page);
      read_from(reinterpret_cast<std::uintptr_t>(two + page + 16));
    }));
    REQUIRE(crash);
    CHECK(crash->mapping.starts_with("unmapped, 16 bytes beyond "));
  }
  {
    // A line of /proc/self/maps that is longer than what is read of it at once.
    std::string root = (std::filesystem::temp_directory_path() / "mp-reports-XXXXXX").string();
    REQUIRE(::mkdtemp(root.data()) != nullptr);
    std::filesystem::path deep = root;
    while (deep.string().size() < 3000) deep /= std::string(200, 'd');
    std::filesystem::create_directories(deep);
    std::ofstream(deep / "file") << std::string(100, ' ');
    const auto crash = crash_of(pool.submit(
        [](const std::string& path) {
          const int file = ::open(path.c_str(), O_RDONLY);
          write_to(reinterpret_cast<std::uintptr_t>(::mmap(nullptr, 100, PROT_READ, MAP_SHARED, file, 0)));
        },
        (deep / "file").string()));
    std::filesystem::remove_all(root);
    REQUIRE(crash);
    CHECK(mp::os::signal_code_name(crash->signal, crash->code) == "SEGV_ACCERR");
    CHECK(crash->mapping.starts_with(root + "/ddd"));
    CHECK(has(crash->stack.text(), "reports.cpp"));
  }
  CHECK(pool.submit(square, 3).result(60s) == 9);
}

TEST_CASE("std::terminate is told with the exception that it was called for, abort() without one") {
  mp::ProcessPoolExecutor pool(1);
  {
    const auto crash = crash_of(pool.submit(terminate_by_exception));
    REQUIRE(crash);
    CHECK(crash->signal == SIGABRT);
    CHECK(crash->terminated);
    CHECK(crash->exception == "std::logic_error");
    CHECK(crash->exception_what == "no way");
    CHECK(mp::crash_cause(*crash) == "SIGABRT, std::terminate for std::logic_error: no way");
    CHECK(has(crash->stack.text(), "reports::terminate_by_exception()"));
  }
  {
    const auto crash = crash_of(pool.submit([]() noexcept { throw_number(7); }));
    REQUIRE(crash);
    CHECK(crash->terminated);
    CHECK(crash->exception == "int");
    CHECK(crash->exception_what.empty());
  }
  {
    const auto crash = crash_of(pool.submit([] { std::terminate(); }));
    REQUIRE(crash);
    CHECK(crash->terminated);
    CHECK(crash->exception.empty());
    CHECK(mp::crash_cause(*crash) == "SIGABRT, std::terminate without an exception");
  }
  {
    const auto crash = crash_of(pool.submit([] {
      try {
        throw_here();
      } catch (...) {
        abort_here();
      }
    }));
    REQUIRE(crash);
    CHECK(crash->signal == SIGABRT);
    CHECK(mp::os::signal_code_name(crash->signal, crash->code) == "SI_TKILL");
    CHECK_FALSE(crash->terminated);
    CHECK(crash->exception.empty());
    CHECK(has(crash->stack.text(), "reports::abort_here() reports.cpp:" + std::to_string(kAbortLine) + '\n'));
  }
  CHECK(pool.submit(square, 3).result(60s) == 9);
}

TEST_CASE("a process that ends without a word is told by what the kernel says of it") {
  mp::ProcessPoolExecutor pool(1);
  {
    const auto crash = crash_of(pool.submit([](int code) { ::_exit(code); }, 3));
    REQUIRE(crash);
    CHECK(crash->signal == 0);
    CHECK(crash->exit_status == 3);
    CHECK(crash->arguments == "(3)");
    CHECK(crash->stack.frames.empty());
    CHECK(mp::crash_cause(*crash) == "exited with status 3");
  }
  {
    const auto crash = crash_of(pool.submit([] { std::exit(4); }));
    REQUIRE(crash);
    CHECK(crash->exit_status == 4);
  }
  {
    const auto crash = crash_of(pool.submit([] {
      burn(300ms);
      ::raise(SIGKILL);
    }));
    REQUIRE(crash);
    CHECK(crash->signal == SIGKILL);
    CHECK(crash->code == 0);
    CHECK(crash->mapping.empty());
    CHECK(crash->stack.frames.empty());
    CHECK(crash->usage.peak_memory > 1'000'000);
    CHECK(crash->usage.user_time + crash->usage.system_time >= 200'000'000);
    CHECK(crash->oom_kills.has_value() == !mp::os::oom_counter_file(::getpid()).empty());
    CHECK_FALSE(crash->out_of_memory());
    CHECK(mp::crash_cause(*crash) == "SIGKILL");
  }
  CHECK(pool.submit(square, 3).result(60s) == 9);
}

TEST_CASE("arguments are told as far as they have a text") {
  mp::ProcessPoolExecutor pool(1);
  const auto die = [](auto...) { ::raise(SIGKILL); };
  CHECK(crash_of(pool.submit(die, 2.5, 'c', true, -7, 8u))->arguments == "(2.5, 'c', true, -7, 8)");
  CHECK(crash_of(pool.submit(die, std::vector<int>{1, 2}, std::pair(1, std::string("x")), std::optional<int>(),
                             std::optional<int>(5)))
            ->arguments == "([1, 2], (1, \"x\"), none, 5)");
  CHECK(crash_of(pool.submit(die, Side{2, "left"}, Colour::green, 1500ms, std::map<int, int>{{1, 2}}))->arguments ==
        "({2, \"left\"}, 2, 1.5 s, {(1, 2)})");
  CHECK(crash_of(pool.submit(die, std::string("a\nb\x01")))->arguments == "(\"a\\nb\\x01\")");
  const std::string long_one = crash_of(pool.submit(die, std::vector<int>(1000, 123456)))->arguments;
  CHECK(long_one.size() < 250);
  CHECK(long_one.ends_with("...)"));
  // What has no text is told by its type, and what follows it too: it is not read.
  const std::string opaque = crash_of(pool.submit(die, 1, std::make_unique<int>(2), 3))->arguments;
  CHECK(opaque.starts_with("(1, <std::unique_ptr<int"));
  CHECK(opaque.ends_with(">, <int>)"));
  // Nothing is read behind a lambda with captures either.
  int captured = 5;
  const auto closure = crash_of(pool.submit([captured](int x) { ::_exit(captured + x); }, 6));
  CHECK(closure->exit_status == 11);
  CHECK(closure->arguments == "(<int>)");
}

TEST_CASE("the crash of an item of a map is told with which it was") {
  mp::ProcessPoolExecutor pool(1);
  const auto crash_in = [](auto results) -> std::optional<mp::CrashDetails> {
    for (auto it = results.begin(); it != results.end(); ++it) {
      try {
        static_cast<void>(*it);
      } catch (const mp::WorkerCrashed& e) {
        return e.details();
      }
    }
    return std::nullopt;
  };
  std::vector<int> numbers{10, 11, 12, 13};
  auto crash = crash_in(pool.map(
      mp::MapOptions{.chunksize = 4},
      [](int x) {
        if (x == 12) ::_exit(3);
        return x;
      },
      numbers));
  REQUIRE(crash);
  CHECK(crash->item == 2u);
  CHECK(crash->arguments == "(12)");
  CHECK(crash->exit_status == 3);
  std::vector<std::string> words{"a", "b", "c"};
  crash = crash_in(pool.map(
      mp::MapOptions{.chunksize = 3},
      [](std::string s, int n) {
        if (s == "b") abort_here();
        return s + std::to_string(n);
      },
      words, numbers));
  REQUIRE(crash);
  CHECK(crash->item == 1u);
  CHECK(crash->arguments == "(\"b\", 11)");
  CHECK(has(mp::WorkerCrashed(*crash).what(), ", item 1,"));
  CHECK(has(crash->stack.text(), "reports::abort_here()"));
}

TEST_CASE("that the kernel's OOM killer ended a worker is told from its control group's count") {
  // A group of this test's own, where the system lets it make one (root, with a writable memory controller).
  const std::string counter = mp::os::oom_counter_file(::getpid());
  const std::filesystem::path own = std::filesystem::path(counter).parent_path();
  const bool v1 = counter.ends_with("memory.oom_control");
  const std::filesystem::path group = own / ("mp-test-" + std::to_string(::getpid()));
  std::error_code refused;
  if (counter.empty() || !std::filesystem::create_directory(group, refused)) {
    MESSAGE("no control group can be made here");
    return;
  }
  struct Remove {
    const std::filesystem::path& group;
    ~Remove() { ::rmdir(group.c_str()); }
  } remove{group};
  const auto limit = group / (v1 ? "memory.limit_in_bytes" : "memory.max");
  const std::string limit_text = std::to_string((test::kAddressSanitized ? 512 : 64) << 20);
  {
    std::ofstream file(limit);
    file << limit_text << std::flush;
    if (!file) {
      MESSAGE("the control group takes no limit");
      return;
    }
  }
  std::ofstream(group / "memory.swap.max") << 0;
  const std::string procs = (group / "cgroup.procs").string();
  {
    mp::ProcessPoolExecutor pool({.max_workers = 1,
                                  .initializer = mp::partial(
                                      [](const std::string& file) {
                                        std::ofstream out(file);
                                        out << ::getpid() << std::flush;
                                        if (!out) throw std::runtime_error(file);
                                      },
                                      procs)});
    CHECK(pool.submit(square, 2).result(60s) == 4);
    const auto eat = [](std::size_t bytes) {
      auto* memory =
          static_cast<char*>(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
      for (std::size_t i = 0; i < bytes; i += 4096) memory[i] = 1;
      return 0;
    };
    const auto killed = crash_of(pool.submit(eat, std::size_t{2} << 30));
    REQUIRE(killed);
    CHECK(killed->signal == SIGKILL);
    CHECK(killed->out_of_memory());
    CHECK(killed->oom_counter == (group / (v1 ? "memory.oom_control" : "memory.events")).string());
    CHECK(mp::crash_cause(*killed) == "SIGKILL, out of memory: by the kernel's OOM killer");
    // Killed by somebody else, in the same group, right after.
    const auto shot = crash_of(pool.submit([] { ::raise(SIGKILL); }));
    REQUIRE(shot);
    CHECK(shot->oom_kills == 0u);
    CHECK(mp::crash_cause(*shot) == "SIGKILL");
    CHECK(pool.submit(square, 3).result(60s) == 9);
  }
}
