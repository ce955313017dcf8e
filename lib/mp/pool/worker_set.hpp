// A set of workers in shared memory: one bit each. Every change is one atomic step, which is also a full fence.
//
// *Thread and process safety*: all of it. *If a process is killed*: its bit stays as it was; whoever buries it clears it.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace mp::pool {

class WorkerSet {
 public:
  static constexpr std::uint32_t kMost = 1024;

  void add(std::uint32_t worker) noexcept { word(worker).fetch_or(bit(worker), std::memory_order_seq_cst); }
  // True if it was there.
  bool remove(std::uint32_t worker) noexcept {
    return word(worker).fetch_and(~bit(worker), std::memory_order_seq_cst) & bit(worker);
  }
  // Calls `f` for each of the workers below `count` that is not in it.
  template <class F>
  void for_others(std::uint32_t count, F&& f) const noexcept {
    for (std::uint32_t i = 0; i * 64 < count; ++i)
      for (std::uint64_t bits = ~words_[i].load(std::memory_order_relaxed); bits != 0; bits &= bits - 1)
        if (const auto worker = i * 64 + static_cast<std::uint32_t>(std::countr_zero(bits)); worker < count) f(worker);
        else break;
  }
  // The first of the workers below `count`, or `count` if there is none.
  std::uint32_t first(std::uint32_t count) const noexcept {
    for (std::uint32_t i = 0; i * 64 < count; ++i)
      if (const std::uint64_t bits = words_[i].load(std::memory_order_seq_cst))
        return i * 64 + static_cast<std::uint32_t>(std::countr_zero(bits));
    return count;
  }

  std::uint32_t size(std::uint32_t count) const noexcept {
    std::uint32_t size = 0;
    for (std::uint32_t i = 0; i * 64 < count; ++i)
      size += static_cast<std::uint32_t>(std::popcount(words_[i].load(std::memory_order_relaxed)));
    return size;
  }

 private:
  std::atomic<std::uint64_t>& word(std::uint32_t worker) noexcept { return words_[worker / 64]; }
  static constexpr std::uint64_t bit(std::uint32_t worker) noexcept { return std::uint64_t{1} << worker % 64; }
  std::atomic<std::uint64_t> words_[kMost / 64]{};
};

}  // namespace mp::pool
