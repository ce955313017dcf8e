#include "mp/channel/openers.hpp"

#include <time.h>

#include <mutex>

#include "mp/memory/family.hpp"
#include "mp/memory/ref.hpp"
#include "mp/os/clock.hpp"

namespace mp::channel {

// Caller holds the lock. Messages are looked at last: a handle goes into one before it is closed, out of one after it is added.
bool Openers::settle() noexcept {
  const bool in_messages =
      memory::is_any_object(token_) && memory::header_of(token_).holders.load(std::memory_order_acquire) > 1;
  const bool gone = handles_.sum() == 0 && !in_messages;
  state_.store(gone ? 1 : 0, std::memory_order_release);
  return gone;
}

void Openers::attach(Tag me, Tag& owner) {
  std::lock_guard guard(lock_);
  std::atomic_ref<Tag> counted_by(owner);
  if (counted_by.load(std::memory_order_relaxed) == me) return;
  if (given_.take(me) == 0) handles_.add(me);
  settle();
  counted_by.store(me, std::memory_order_release);
}

bool Openers::detach(Tag me, Tag owner) noexcept {
  std::lock_guard guard(lock_);
  if (owner == me || given_.take(me) != 0) handles_.take(me);
  return settle();
}

void Openers::give(Tag child) {
  std::lock_guard guard(lock_);
  handles_.add(child);
  given_.add(child);
  settle();
}

bool Openers::is_time_to_look() noexcept {
  timespec t;
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &t);  // some 5 ns
  const auto now = static_cast<std::uint32_t>(t.tv_sec * 1000 + t.tv_nsec / 1'000'000);
  std::uint32_t last = looked_at_.load(std::memory_order_relaxed);
  constexpr std::uint32_t kEvery = os::kSlice / std::chrono::milliseconds(1);
  return now - last >= kEvery && looked_at_.compare_exchange_strong(last, now, std::memory_order_relaxed);
}

bool Openers::look_now() noexcept {
  {
    std::lock_guard guard(lock_);
    handles_.drop_dead();
    given_.drop_dead();
    if (settle()) return true;
    if (handles_.sum() != 0) return false;
  }
  // Only messages hold it: such as the arguments of a process that was killed before it read them.
  memory::sweep();
  std::lock_guard guard(lock_);
  return settle();
}

void Openers::destroy() noexcept {
  handles_.free_blocks();
  given_.free_blocks();
}

}  // namespace mp::channel
