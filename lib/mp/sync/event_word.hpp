// "Something has changed", as a futex word: what queues, pipes, conditions and events sleep on. It keeps no count of
// sleepers that a dead one could leave wrong, only a flag that heals itself.
//
// The word: bit 0 somebody may sleep, bits 1-31 count the notifications that found it set.
//
//   waiter:  seen = prepare();  if (what I want is there) go on;  wait(seen, deadline);  again
//   changer: change the state;  notify
//
// *Thread and process safety*: any thread of any process; notify also in a signal handler.
// *Memory ordering*: prepare() and notify are sequentially consistent against the state in between: a waiter that saw
// the old state is either awake or will be woken.
// *If a process is killed*: a sleeper: nothing; a changer between change and notify, or a woken one that took a wake-up with
// it: sleepers look again after one slice.
#pragma once

#include <atomic>
#include <cstdint>

#include "mp/os/clock.hpp"
#include "mp/os/futex.hpp"

namespace mp::sync {

class EventWord {
 public:
  std::uint32_t prepare() noexcept { return word_.fetch_or(1, std::memory_order_seq_cst) | 1; }
  // Sleeps until notified since prepare(), at most one slice and not beyond `deadline`. What it returns is a hint:
  // look at the state again.
  os::Woken wait(std::uint32_t seen, const os::Deadline& deadline) const noexcept {
    return os::futex_wait(word_, seen, deadline.next(os::kSlice));
  }
  void notify_one() noexcept { notify(1); }
  void notify_all() noexcept { notify(os::kAll); }
  // For futex_wait_any: the word and, from prepare(), what it holds.
  const std::atomic<std::uint32_t>& word() const noexcept { return word_; }

 private:
  void notify(int count) noexcept {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (word_.load(std::memory_order_relaxed) & 1) [[unlikely]] wake(count);
  }
  void wake(int count) noexcept;

  std::atomic<std::uint32_t> word_{0};
};
static_assert(sizeof(EventWord) == 4);

}  // namespace mp::sync
