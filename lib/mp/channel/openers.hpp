// Who has one end of a pipe open: processes, each with how many handles, and messages that carry a handle. This is how the other end
// knows that nobody will ever send or receive again, where Python has the kernel count descriptors.
//
// A process counts from the moment it makes, receives or copies a handle. After a fork the child has copies of all its parent's
// handles in its memory; they count there only
//   - if they were given to it (give(), by who forks, for what is passed to the child), or
//   - from their first use in the child on (so a sibling that merely inherited an end holds no end of file back).
// Messages count through the end's Token, an object that nobody but they and the pipe itself hold.
//
// Invariants:
//  1. The ledgers change under the lock, each by one store; bit 0 of `state` follows them before the lock is given back.
//  2. Who passes a handle on counts at the new place before it stops counting at the old one.
// *Thread and process safety*: everything, from any thread of any process.
// *If a process is killed*: what it had open is closed by the next look(). Killed while it writes a handle into a message or
// takes it out of one, that message's count may stay, and the end counts as open for ever.
#pragma once

#include <atomic>
#include <cstdint>

#include "mp/memory/arena.hpp"
#include "mp/sync/ledger.hpp"
#include "mp/sync/mutex.hpp"

namespace mp::channel {

using memory::Offset;
using memory::Tag;

// What a message that holds a handle of an end keeps, beside the pipe itself (Kind::pipe).
struct Token {
  Offset pipe;  // not counted: the pipe holds the token
  std::uint32_t side;
};

class Openers {
 public:
  explicit Openers(Offset token) noexcept : token_(token) {}

  // Counts a handle of process `me`, unless `owner`, where the handle remembers who counts it, says that it is. Several threads may
  // do it for one handle. Throws SharedMemoryFull.
  void attach(Tag me, Tag& owner);
  // Stops counting that handle, or, where it is a fork child's copy that was never used, one given to the child. True if
  // nobody has the end open any more.
  bool detach(Tag me, Tag owner) noexcept;
  // One handle more for a child that is about to be forked; its first handle to be used or dropped takes it over. Throws SharedMemoryFull.
  void give(Tag child);

  bool has(Tag tag) const noexcept { return handles_.count_of(tag) != 0; }

  bool gone() const noexcept { return state_.load(std::memory_order_acquire) & 1; }
  // Bit 0: gone.
  const std::atomic<std::uint32_t>& state() const noexcept { return state_; }

  // Asks the kernel whether those who have it open live, 5 us each, unless somebody did so within the last slice. True if it
  // is gone by that (or was before).
  bool look() noexcept {
    if (gone()) return true;
    return is_time_to_look() && look_now();
  }

  // Frees what was allocated. Nobody uses it any more.
  void destroy() noexcept;

 private:
  bool is_time_to_look() noexcept;
  bool look_now() noexcept;
  bool settle() noexcept;

  sync::Mutex lock_;
  std::atomic<std::uint32_t> state_{0};
  std::atomic<std::uint32_t> looked_at_{0};  // milliseconds of the monotonic clock
  sync::Ledger handles_, given_;             // of the handles, those that are given and not yet claimed
  const Offset token_;
};
static_assert(sizeof(Openers) == 136);

}  // namespace mp::channel
