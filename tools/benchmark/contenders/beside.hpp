// Other processes and memory shared with them, without any library: for floors and for rivals that bring none.
#pragma once

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <new>

namespace bench {

// A T in memory that fork children share; never freed.
template <class T>
T* shared(std::size_t extra = 0) {
  void* pages =
      ::mmap(nullptr, sizeof(T) + extra, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  return new (pages) T();
}

// Another process that runs work() and ends; gone with this one at the latest. The destructor waits for it.
class Beside {
 public:
  template <class Work>
  explicit Beside(Work work) : pid_(::fork()) {
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    work();
    ::_exit(0);
  }
  ~Beside() { join(); }
  Beside(const Beside&) = delete;
  void join() {
    if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  void kill() {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
  }

 private:
  pid_t pid_;
};

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace bench
