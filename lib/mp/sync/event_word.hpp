// "Something has changed", as a futex word: what queues, pipes, semaphores and events sleep on. It keeps no count of
// sleepers that a dead one could leave wrong, only a flag that heals itself.
//
// The word: bit 0 somebody may sleep, bits 1-31 count the notifications that found it set.
//
//   waiter:  seen = prepare();  if (what I want is there) go on;  wait(seen, deadline);  again
//   changer: change the state;  notify
//
// Invariants:
//  1. Who sleeps on the word's current value has its flag set, but for the moment in which notify_one() heals it.
//  2. The count moves with every notification that found the flag: a waiter that has prepared and not yet slept will not.
//
// *Thread and process safety*: any thread of any process; notify also in a signal handler.
// *Memory ordering*: prepare() and notify are sequentially consistent fences: a waiter that saw the old state is either
// awake or will be woken.
// *If a process is killed*: a sleeper: nothing; a changer between change and notify, or a woken one that took a wake-up
// with it: sleepers look again after one slice (20 ms).
#pragma once

#include <atomic>
#include <cstdint>

#include "mp/os/clock.hpp"
#include "mp/os/futex.hpp"

namespace mp::sync {

class EventWord {
 public:
  std::uint32_t prepare() noexcept {
    std::uint32_t seen = word_.fetch_or(1, std::memory_order_seq_cst) | 1;
    std::atomic_thread_fence(std::memory_order_seq_cst);  // against the looks at the state that follow, of any order
    return seen;
  }
  // Sleeps until notified since prepare(), at most one slice and not beyond `deadline`. What it returns is a hint:
  // look at the state again.
  os::Woken wait(std::uint32_t seen, const os::Deadline& deadline) const noexcept {
    return os::futex_wait(word_, seen, deadline.next(os::kSlice));
  }
  // No system call where nobody sleeps.
  void notify_one() noexcept {
    if (flagged()) [[unlikely]]
      wake_one();
  }
  void notify_all() noexcept {
    if (flagged()) [[unlikely]]
      wake_all();
  }
  // For futex_wait_any: the word and, from prepare(), what it holds.
  const std::atomic<std::uint32_t>& word() const noexcept { return word_; }

 private:
  bool flagged() const noexcept {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return word_.load(std::memory_order_relaxed) & 1;
  }
  void wake_one() noexcept;
  void wake_all() noexcept;

  std::atomic<std::uint32_t> word_{0};
};
static_assert(sizeof(EventWord) == 4);

}  // namespace mp::sync
