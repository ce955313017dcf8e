#include "mp/os/threads.hpp"

#include <signal.h>
#include <sys/single_threaded.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <system_error>

#include "mp/errors.hpp"
#include "mp/os/call.hpp"
#include "mp/os/fork_page.hpp"
#include "mp/os/limit.hpp"

namespace mp::os {
namespace {

MP_FORK_PAGE std::atomic<unsigned> own_threads{0};
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
  // The C library's word: true as long as it has made no thread, at least.
  if (__libc_single_threaded) return 0;
  // A directory's link count: itself, its name in its parent, and one for each directory in it.
  struct stat tasks;
  if (call_again(Call::stat, [&] { return ::stat("/proc/self/task", &tasks); }) != 0 || tasks.st_nlink < 3) return 0;
  auto all = static_cast<unsigned>(tasks.st_nlink - 2);
  unsigned known = own_threads.load(std::memory_order_relaxed) + (is_own ? 0 : 1);
  return all > known ? all - known : 0;
}

std::thread start_thread(const std::string& what, std::function<void()> body) {
  std::thread made;
  const int result = call_again(Call::thread, [&] {
    try {
      made = std::thread(std::move(body));
      return 0;
    } catch (const std::system_error& e) {
      errno = e.code().value();
      return -1;
    }
  });
  if (result != 0) throw refused(errno, "pthread_create", "for " + what);
  return made;
}

std::thread start_quiet_thread(const std::string& what, std::function<void()> body) {
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  struct Restore {
    const sigset_t& mask;
    ~Restore() { ::pthread_sigmask(SIG_SETMASK, &mask, nullptr); }
  } restore{before};
  return start_thread(what, std::move(body));
}

[[gnu::hot]] void threads_after_fork() noexcept {
  // Most forks change nothing; then the child need not copy the page.
  const unsigned left = is_own ? 1 : 0;
  if (own_threads.load(std::memory_order_relaxed) != left) own_threads.store(left, std::memory_order_relaxed);
}

}  // namespace mp::os
