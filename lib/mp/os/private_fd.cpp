#include "mp/os/private_fd.hpp"

#include <atomic>
#include <bit>
#include <cstddef>

namespace mp::os {
namespace {

// One bit a descriptor: no lock that a fork could copy in a locked state. Descriptors beyond stay open in children.
constexpr std::size_t kWords = 1024;
std::atomic<std::uint64_t> words[kWords];
std::uint32_t depth = 0;

}  // namespace

void make_private(int fd) noexcept {
  if (auto i = static_cast<std::size_t>(fd); i / 64 < kWords)
    words[i / 64].fetch_or(1ull << i % 64, std::memory_order_relaxed);
}

void make_shared(int fd) noexcept {
  if (auto i = static_cast<std::size_t>(fd); i / 64 < kWords)
    words[i / 64].fetch_and(~(1ull << i % 64), std::memory_order_relaxed);
}

void close_private_fds() noexcept {
  ++depth;
  for (std::size_t w = 0; w < kWords; ++w)
    for (std::uint64_t bits = words[w].exchange(0, std::memory_order_relaxed); bits; bits &= bits - 1)
      ::close(static_cast<int>(w * 64 + static_cast<std::size_t>(std::countr_zero(bits))));
}

std::uint32_t fork_depth() noexcept { return depth; }

}  // namespace mp::os
