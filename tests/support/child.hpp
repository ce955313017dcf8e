// Children made by hand in tests: forked, running one function, reporting by exit code or through Shared. They make no
// assertions (tests/README.md, "Children").
//
//   test::Shared<Report> report;
//   test::Child child([&] { report->value = compute(); return report->value == 7 ? 0 : 1; });
//   CHECK(child.wait() == 0);
#pragma once

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace test {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// Whether `ready()` becomes true within `limit`, looked at every few hundred microseconds.
template <class Ready>
bool eventually(Ready&& ready, std::chrono::milliseconds limit = 10s) {
  const auto until = Clock::now() + limit;
  while (!ready()) {
    if (Clock::now() > until) return false;
    std::this_thread::sleep_for(200us);
  }
  return true;
}

// How long `f()` takes.
template <class F>
std::chrono::milliseconds time_of(F&& f) {
  const auto start = Clock::now();
  f();
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start);
}

inline constexpr int kThrew = 99;  // exit code of a child whose function threw

class Child {
 public:
  // Forks; the child runs `f` and ends with the int that it returns, else with 0.
  template <class F>
  explicit Child(F f) : pid_(::fork()) {
    if (pid_ == 0) run(f);
    if (pid_ < 0) std::perror("fork"), std::abort();
  }
  // Of a child that was forked by other means.
  static Child of(pid_t pid) { return Child(pid, 0); }
  Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, 0)), status_(other.status_) {}
  Child& operator=(Child&&) = delete;
  ~Child() { kill(); }

  pid_t pid() const { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }
  // SIGKILL, and reaps it.
  void kill() {
    if (pid_ <= 0) return;
    signal(SIGKILL);
    wait();
  }
  // Whether it has ended by itself within `limit`; reaps it then.
  bool ends_within(std::chrono::milliseconds limit) {
    return pid_ <= 0 || eventually([&] { return reap(WNOHANG); }, limit);
  }
  // Its exit code, or -N when signal N killed it. A child that hangs is left to the supervisor of the tests.
  int wait() {
    if (pid_ > 0) reap(0);
    return status_;
  }

 private:
  Child(pid_t pid, int) : pid_(pid) {}
  template <class F>
  [[noreturn]] static void run(F& f) {
    try {
      if constexpr (std::is_void_v<decltype(f())>) f(), ::_exit(0);
      else ::_exit(static_cast<int>(f()));
    } catch (const std::exception& e) {
      std::fprintf(stderr, "child %d: %s\n", static_cast<int>(::getpid()), e.what());
      ::_exit(kThrew);
    }
  }
  bool reap(int how) {
    int status = 0;
    pid_t got;
    do got = ::waitpid(pid_, &status, how);
    while (got < 0 && errno == EINTR);
    if (got == 0) return false;
    status_ = got < 0 ? -1000 : WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    pid_ = 0;
    return true;
  }

  pid_t pid_;
  int status_ = 0;
};

// Waits for all; whether each returned 0.
inline bool all_succeed(std::vector<Child>& children) {
  bool well = true;
  for (Child& c : children) well &= c.wait() == 0;
  children.clear();
  return well;
}

// `n` children that run f(0) ... f(n - 1).
template <class F>
std::vector<Child> children(int n, F f) {
  std::vector<Child> made;
  made.reserve(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i) made.emplace_back([f, i] { return f(i); });
  return made;
}

// The result of `f()` in a child of its own.
template <class F>
int in_child(F f) {
  return Child(std::move(f)).wait();
}

// A T in memory that this process shares with the children forked later; independent of what is tested.
template <class T>
class Shared {
  static_assert(std::is_trivially_destructible_v<T>);

 public:
  template <class... Args>
  explicit Shared(Args&&... args) {
    void* place = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) std::perror("mmap"), std::abort();
    object_ = new (place) T(std::forward<Args>(args)...);
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  ~Shared() { ::munmap(static_cast<void*>(object_), sizeof(T)); }
  T* operator->() const noexcept { return object_; }
  T& operator*() const noexcept { return *object_; }

 private:
  T* object_;
};

}  // namespace test
