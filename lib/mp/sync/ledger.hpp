// Who holds how many of something: semaphore tokens, open ends of a pipe. One entry a holder, so that what the dead held
// can be told and taken back.
//
// An entry is one word: bits 0-30 the holder's tag (0 = empty), bits 32-63 how many. Every change is one store of it.
// The first entries lie inside, more in a chain of blocks that is never shortened and never moved.
//
// *Thread and process safety*: change and sum under the owner's Mutex; count_of and (found_)dead_holder may also be called
// without it, for a look. *If a process is killed*: its entry stays until drop_dead().
#pragma once

#include <atomic>
#include <cstdint>

#include "mp/memory/arena.hpp"

namespace mp::sync {

class Ledger {
 public:
  // One more, or `n` more, for `holder`. Throws SharedMemoryFull, nothing then being changed.
  void add(memory::Tag holder, std::uint32_t n = 1);
  // `n` fewer, at most what it holds; how many were taken off.
  std::uint32_t take(memory::Tag holder, std::uint32_t n = 1) noexcept;
  // The same of any holder's, the first found.
  std::uint32_t take_any(std::uint32_t n) noexcept;
  std::uint64_t sum() const noexcept;
  std::uint32_t count_of(memory::Tag holder) const noexcept;
  // Somebody who is dead and holds some; kNobody if there is none. Asks the kernel about each other holder.
  memory::Tag dead_holder() const noexcept;
  // The same of those that somebody has found dead already: asks nobody.
  memory::Tag found_dead_holder() const noexcept;
  // Forgets what the dead held; how many that was.
  std::uint64_t drop_dead() noexcept;
  // Frees the chain: when the object that the ledger is part of is destroyed.
  void free_blocks() noexcept;

 private:
  using Entry = std::atomic<std::uint64_t>;
  static constexpr std::size_t kInside = 6, kInBlock = 62;
  struct Block {
    std::atomic<memory::Offset> next{0};
    std::uint64_t unused = 0;
    Entry entries[kInBlock]{};
  };
  template <class F>
  bool any_entry(F&& f) const noexcept;  // until f(entry) is true
  template <class Dead>
  memory::Tag holder_that(Dead dead) const noexcept;

  std::atomic<memory::Offset> next_{0};
  mutable Entry entries_[kInside]{};
};
static_assert(sizeof(Ledger) == 56);

}  // namespace mp::sync
