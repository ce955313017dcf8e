#include "mp/os/private_fd.hpp"

#include <atomic>
#include <bit>
#include <cstddef>

#include "mp/os/fork_page.hpp"

namespace mp::os {
namespace {

// One bit a descriptor: no lock that a fork could copy in a locked state. Descriptors beyond stay open in children.
constexpr std::size_t kWords = 1024, kLow = 8;
MP_FORK_PAGE std::uint32_t depth = 0;
MP_FORK_PAGE std::atomic<std::size_t> used{
    0};  // words from here on were always zero: a child need not touch their pages
MP_FORK_PAGE std::atomic<std::uint64_t> low[kLow];  // of most programs, all
std::atomic<std::uint64_t> high[kWords - kLow];

std::atomic<std::uint64_t>& word(std::size_t i) noexcept { return i < kLow ? low[i] : high[i - kLow]; }

}  // namespace

void make_private(int fd) noexcept {
  auto i = static_cast<std::size_t>(fd);
  if (i / 64 >= kWords) return;
  std::size_t seen = used.load(std::memory_order_relaxed);
  while (seen <= i / 64 && !used.compare_exchange_weak(seen, i / 64 + 1, std::memory_order_relaxed)) {}
  word(i / 64).fetch_or(1ull << i % 64, std::memory_order_relaxed);
}

void make_shared(int fd) noexcept {
  if (auto i = static_cast<std::size_t>(fd); i / 64 < kWords)
    word(i / 64).fetch_and(~(1ull << i % 64), std::memory_order_relaxed);
}

[[gnu::hot]] void close_private_fds() noexcept {
  ++depth;
  // Nobody else runs here, so a word is only written, and its page copied, where it changes.
  for (std::size_t w = 0; w < used.load(std::memory_order_relaxed); ++w) {
    std::uint64_t bits = word(w).load(std::memory_order_relaxed);
    if (bits == 0) continue;
    word(w).store(0, std::memory_order_relaxed);
    for (; bits; bits &= bits - 1) ::close(static_cast<int>(w * 64 + static_cast<std::size_t>(std::countr_zero(bits))));
  }
}

[[gnu::hot]] std::uint32_t fork_depth() noexcept { return depth; }

}  // namespace mp::os
