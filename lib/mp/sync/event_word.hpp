// "Something has changed", as a futex word: what locks, queues, pipes, semaphores and events sleep on. It keeps no count of
// sleepers that a dead one could leave wrong, only two flags that heal themselves.
//
// The word: bit 0 somebody may sleep, bit 1 several may, bits 2-31 count the notifications that found the first set.
//
//   waiter:  seen = prepare();  if (what I want is there) go on;  wait(seen, deadline);  again
//   changer: change the state;  notify
//
// Invariants:
//  1. While somebody sleeps on the word's current value, bit 0 is set, and bit 1 where there are two, but for the moment in which
//     notify_one() heals them. So who is woken alone leaves no flag behind for the next notification to stumble over.
//  2. The count moves with every notification that found the flag: a waiter that has prepared and not yet slept will not.
//
// *Thread and process safety*: any thread of any process; notify also in a signal handler.
// *Memory ordering*: prepare() is the heavy, notify the light half of a pair of fences (os/fence.hpp): a waiter that saw the
// old state is either awake or will be woken. To who notifies without need it costs a load.
// *If a process is killed*: a sleeper: nothing; a changer between change and notify, or a woken one that took a wake-up
// with it: sleepers look again after one slice (20 ms).
#pragma once

#include <atomic>
#include <cstdint>

#include "mp/os/clock.hpp"
#include "mp/os/fence.hpp"
#include "mp/os/futex.hpp"

namespace mp::sync {

class EventWord {
 public:
  std::uint32_t prepare() noexcept {
    std::uint32_t seen = flag();
    os::heavy_fence();  // before the look at the state that follows
    return seen;
  }
  // The same against one who was last seen on the caller's own CPU, at a third of the price. Should it have moved and notify at this very
  // moment, that may be missed: sleep os::kBrief at most, then prepare() in full.
  std::uint32_t prepare_beside() noexcept { return flag(); }
  // Sleeps until notified since prepare(), at most one slice and not beyond `deadline`. What it returns is a hint:
  // look at the state again.
  os::Woken wait(std::uint32_t seen, const os::Deadline& deadline,
                 std::chrono::nanoseconds slice = os::kSlice) const noexcept {
    return os::futex_wait(word_, seen, deadline.next(slice));
  }
  // No system call where nobody sleeps. False if somebody was said to sleep and nobody did: who did was woken by something else, or died.
  bool notify_one() noexcept { return !flagged() || wake_one(); }
  void notify_all() noexcept {
    if (flagged()) [[unlikely]]
      wake_all();
  }
  // For futex_wait_any: the word and, from prepare(), what it holds.
  const std::atomic<std::uint32_t>& word() const noexcept { return word_; }

 private:
  static constexpr std::uint32_t kSomebody = 1, kSeveral = 2, kFlags = kSomebody | kSeveral, kStep = 4;
  bool flagged() const noexcept {
    os::light_fence();
    return word_.load(std::memory_order_relaxed) & kSomebody;
  }
  std::uint32_t flag() noexcept {
    std::uint32_t now = word_.load(std::memory_order_relaxed), then;
    do then = now | (now & kSomebody ? kSomebody | kSeveral : kSomebody);
    while (!word_.compare_exchange_weak(now, then, std::memory_order_seq_cst, std::memory_order_relaxed));
    return then;
  }
  bool wake_one() noexcept;
  bool wake_all() noexcept;

  std::atomic<std::uint32_t> word_{0};
};
static_assert(sizeof(EventWord) == 4);

}  // namespace mp::sync
