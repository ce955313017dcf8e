// Crash reports: one pool, a task of each kind that ends its worker or goes past a limit, and what the caller is told of it. The pool goes on.
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <mp/mp.hpp>

using namespace std::chrono_literals;

// Not inlined, so that each stands in the stack under its own name.
[[gnu::noinline]] int read_null(int row, const std::string& side) {
  volatile const int* nowhere = nullptr;
  return nowhere[row] + static_cast<int>(side.size());
}
[[gnu::noinline]] int overflow(int depth) {
  volatile char frame[4096];
  frame[0] = static_cast<char>(depth);
  return depth < 0 ? 0 : overflow(depth + 1) + frame[0];
}
int abort_here() { std::abort(); }
[[gnu::noinline]] void fail(const std::string& why) { throw std::logic_error(why); }
int terminate(const std::string& why) noexcept {
  fail(why);
  return 0;
}
int exit_with(int code) { ::_exit(code); }
int kill_itself() { return std::raise(SIGKILL); }
int spin() {
  volatile bool never = false;
  while (!never) {}
  return 0;
}
int eat(std::size_t bytes) {
  std::vector<std::string> pieces;
  for (std::size_t all = 0; all < bytes; all += 1 << 20) pieces.emplace_back(1 << 20, 'x');
  return static_cast<int>(pieces.size());
}
int write_file(const std::string& path, std::size_t bytes) {
  std::ofstream(path) << std::string(bytes, 'x') << std::flush;
  return 0;
}
std::string talk(std::size_t bytes) { return std::string(bytes, '.'); }
int square(int x) { return x * x; }

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
constexpr bool kSanitized = __has_feature(address_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

class Check {
 public:
  // Waits for the task's end, prints what is told of it, and says whether that is right.
  template <class R>
  void expect(const char* what, mp::Future<R> future, const std::function<bool(const mp::CrashDetails&)>& right) {
    std::cout << "---- " << what << '\n';
    bool fine = false;
    try {
      future.result(100s);
    } catch (const std::exception& e) {
      // WorkerCrashed, LimitExceeded and TaskTimeout all carry a report.
      const auto* crash = dynamic_cast<const mp::CrashReport*>(&e);
      std::cout << (crash != nullptr ? crash->report() : e.what()) << '\n';
      fine = crash != nullptr && right(crash->details());
    }
    if (!fine) std::cout << "that is not what was expected\n";
    std::cout << std::endl;
    wrong_ += !fine;
  }
  int wrong() const { return wrong_; }

 private:
  int wrong_ = 0;
};

int main() {
  mp::freeze_support();
  mp::ProcessPoolExecutor pool(2);
  Check check;
  using Details = const mp::CrashDetails&;
  const auto by_signal = [](int signal) { return [=](Details d) { return d.signal == signal; }; };
  const auto past = [](mp::Limit limit) { return [=](Details d) { return d.limit == limit; }; };
  // A sanitizer's handlers own the memory faults, and end in an abort().
  const int fault = kSanitized ? SIGABRT : SIGSEGV;

  check.expect("a null pointer", pool.submit(mp::TaskOptions{.name = "tile 7"}, read_null, 3, "left"), [&](Details d) {
    return d.signal == fault && d.task_name == "tile 7" && d.arguments == "(3, \"left\")" &&
           (kSanitized || (d.address == 12 && d.mapping == "unmapped"));
  });
  check.expect("a stack overflow", pool.submit(overflow, 0), [&](Details d) {
    return d.signal == fault && (kSanitized || d.mapping == "stack guard of the main thread");
  });
  check.expect("abort()", pool.submit(abort_here), by_signal(SIGABRT));
  check.expect("an exception that may not leave", pool.submit(terminate, "no way"), [](Details d) {
    return d.signal == SIGABRT && d.exception == "std::logic_error" && d.exception_what == "no way";
  });
  check.expect("_exit()", pool.submit(exit_with, 3), [](Details d) { return d.signal == 0 && d.exit_status == 3; });
  check.expect("SIGKILL", pool.submit(kill_itself), by_signal(SIGKILL));

  const auto file = std::filesystem::temp_directory_path() / ("mp-crash-" + std::to_string(::getpid()));
  check.expect("too long", pool.submit(mp::TaskOptions{.limits = {.wall_time = 200ms}}, spin),
               past(mp::Limit::wall_time));
  check.expect("too much CPU time", pool.submit(mp::TaskOptions{.limits = {.cpu_time = 200ms}}, spin),
               past(mp::Limit::cpu_time));
  if (!kSanitized)  // its allocator does not throw std::bad_alloc
    check.expect("too much memory",
                 pool.submit(mp::TaskOptions{.limits = {.memory = 32u << 20}}, eat, std::size_t{1} << 30),
                 past(mp::Limit::memory));
  check.expect(
      "too large a file",
      pool.submit(mp::TaskOptions{.limits = {.file_size = 10'000}}, write_file, file.string(), std::size_t{1} << 20),
      past(mp::Limit::file_size));
  check.expect("too large a result",
               pool.submit(mp::TaskOptions{.limits = {.output = 1000}}, talk, std::size_t{1} << 20),
               past(mp::Limit::output));
  std::filesystem::remove(file);

  const int still = pool.submit(square, 7).result();
  std::cout << "the pool goes on: 7 * 7 = " << still << std::endl;
  return check.wrong() == 0 && still == 49 ? 0 : 1;
}
