// A descriptor that belongs to this process alone: fork children close it right after the fork, so that it reaches
// neither them nor their siblings. For pidfds, pipe ends, timers: whatever the library opens for its own use.
#pragma once

#include <cstdint>
#include <utility>

#include "mp/os/fd.hpp"

namespace mp::os {

// From now on fork children close `fd`, or no longer do. Lock-free.
void make_private(int fd) noexcept;
void make_shared(int fd) noexcept;

// In a fork child, before anything else: closes what the parent has made private. Async-signal-safe.
void close_private_fds() noexcept;

// How many forks lie between the program's start and this process, as far as close_private_fds() was called.
std::uint32_t fork_depth() noexcept;

// Like UniqueFd. The copies of it in a fork child's memory are empty shells: they close nothing.
class PrivateFd {
 public:
  PrivateFd() noexcept = default;
  explicit PrivateFd(UniqueFd fd) noexcept : fd_(fd.release()), depth_(fork_depth()) {
    if (fd_ >= 0) make_private(fd_);
  }
  PrivateFd(PrivateFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)), depth_(other.depth_) {}
  PrivateFd& operator=(PrivateFd&& other) noexcept {
    PrivateFd old(std::move(*this));
    fd_ = std::exchange(other.fd_, -1);
    depth_ = other.depth_;
    return *this;
  }
  ~PrivateFd() {
    if (int fd = get(); fd >= 0) {
      make_shared(fd);
      ::close(fd);
    }
  }
  int get() const noexcept { return fd_ >= 0 && depth_ == fork_depth() ? fd_ : -1; }
  explicit operator bool() const noexcept { return get() >= 0; }

 private:
  int fd_ = -1;
  std::uint32_t depth_ = 0;
};

}  // namespace mp::os
