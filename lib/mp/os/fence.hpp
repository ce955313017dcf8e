// The two halves of "I change something and look whether you sleep; you say that you sleep and look whether something has
// changed". Each side writes and then looks, and the processor must not swap the two. Who changes does so millions of times, who
// sleeps seldom: so the sleeper pays for both. Its heavy_fence() makes the kernel run a fence on every CPU where a process
// of the family runs (membarrier(2), global expedited), and the changer's light_fence() keeps only the compiler from swapping.
//
//   changer:  store the change;  light_fence();  load who sleeps
//   sleeper:  store "I sleep";   heavy_fence();  load what has changed
//
// *Memory ordering*: of any two threads of the family, at least one sees what the other stored.
#pragma once

#include <atomic>

namespace mp::os {

namespace detail {
inline constinit bool light_is_enough = false;  // set by enlist_in_fences()
}

// Each process of the family calls this before it shares anything; fork children have it from their parent. Where the
// kernel refuses, this process's light_fence() is a full one.
void enlist_in_fences() noexcept;

inline void light_fence() noexcept {
  if (detail::light_is_enough) [[likely]]
    std::atomic_signal_fence(std::memory_order_seq_cst);
  else std::atomic_thread_fence(std::memory_order_seq_cst);
}

// Some 150 ns, 10 us where another CPU must be interrupted in a virtual machine. False where the kernel refuses (a filter of system calls
// put up later): then a change may be missed, and the sleep that follows must be short.
bool heavy_fence() noexcept;

}  // namespace mp::os
