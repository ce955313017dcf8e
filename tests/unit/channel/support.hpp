// Children for the tests of this room, which has no Process yet: forked members of the family.
#pragma once

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <exception>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <utility>

#include "mp/channel/pipe_state.hpp"
#include "mp/memory/family.hpp"
#include "mp/memory/ref.hpp"

namespace test {

// What the kernel says a process does: 'R' runs, 'S' sleeps, ...; 0 if it cannot be read.
inline char state_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  const std::string line{std::istreambuf_iterator<char>(file), {}};
  const auto name_ends = line.rfind(") ");
  return name_ends == std::string::npos ? '\0' : line[name_ends + 2];
}

// A forked child that runs `body` and ends with what it returns; 99 if it throws. Killed at the latest by the destructor.
// Connections captured by value are given to it; the parent lets go of the copies as soon as it runs.
class Child {
 public:
  template <class F>
  explicit Child(F body) {
    std::optional<mp::memory::Recorder> recorder(std::in_place);
    F held(body);
    tag_ = mp::memory::enlist(mp::memory::self());
    mp::channel::keep_in_child(tag_, recorder->objects());
    recorder.reset();
    pid_ = mp::memory::fork_as(tag_);
    if (pid_ != 0) return;
    int code = 99;
    try {
      code = held();
    } catch (const std::exception&) {}
    ::_exit(code);
  }
  Child(Child&& other) noexcept : tag_(other.tag_), pid_(std::exchange(other.pid_, -1)) {}
  Child& operator=(Child&& other) noexcept {
    std::swap(tag_, other.tag_);
    std::swap(pid_, other.pid_);
    return *this;
  }
  ~Child() {
    if (pid_ > 0) {
      kill();
      join();
    }
  }
  pid_t pid() const { return pid_; }
  void kill() const { ::kill(pid_, SIGKILL); }
  // The exit code, or -N for signal N.
  int join() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0) {}
    pid_ = -1;
    mp::memory::retire(tag_);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  mp::memory::Tag tag_ = mp::memory::kNobody;
  pid_t pid_ = -1;
};

}  // namespace test
