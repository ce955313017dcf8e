#include "mp/os/threads.hpp"

#include <sys/stat.h>

#include <atomic>

namespace mp::os {
namespace {

std::atomic<unsigned> own_threads{0};
thread_local bool is_own = false;

}  // namespace

LibraryThread::LibraryThread() noexcept {
  is_own = true;
  own_threads.fetch_add(1, std::memory_order_relaxed);
}

LibraryThread::~LibraryThread() {
  own_threads.fetch_sub(1, std::memory_order_relaxed);
  is_own = false;
}

unsigned foreign_threads() noexcept {
  // A directory's link count: itself, its name in its parent, and one for each directory in it.
  struct stat tasks;
  if (::stat("/proc/self/task", &tasks) != 0 || tasks.st_nlink < 3) return 0;
  auto all = static_cast<unsigned>(tasks.st_nlink - 2);
  unsigned known = own_threads.load(std::memory_order_relaxed) + (is_own ? 0 : 1);
  return all > known ? all - known : 0;
}

[[gnu::hot]] void threads_after_fork() noexcept {
  // Most forks change nothing; then the child need not copy the page.
  const unsigned left = is_own ? 1 : 0;
  if (own_threads.load(std::memory_order_relaxed) != left) own_threads.store(left, std::memory_order_relaxed);
}

}  // namespace mp::os
