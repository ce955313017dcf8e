// Which threads of this process are the library's own. They survive being lost in a fork; those of the program may not.
#pragma once

#include <functional>
#include <string>
#include <thread>

namespace mp::os {

// An object of it lives on the stack of each of the library's threads, from first to last.
class LibraryThread {
 public:
  LibraryThread() noexcept;
  ~LibraryThread();
  LibraryThread(const LibraryThread&) = delete;
  LibraryThread& operator=(const LibraryThread&) = delete;
};

// How many threads this process has besides the caller and the library's own: some 2 us.
unsigned foreign_threads() noexcept;

// A thread that runs `body`; the second kind handles none of the program's signals. Throws OSError (EAGAIN) that says what it was `for`.
std::thread start_thread(const std::string& what, std::function<void()> body);
std::thread start_quiet_thread(const std::string& what, std::function<void()> body);

// In a fork child: only the caller's thread is left.
void threads_after_fork() noexcept;

}  // namespace mp::os
