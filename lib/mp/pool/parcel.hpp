// Bytes on their way between a pool's owner and its workers: in the place kept for them where they fit, else in an arena
// block of their own; behind them the references they carry. One form for a task's arguments, its result, and the items
// of a map.
//
// *If a process is killed* while it seals a parcel, its block is freed, but for one instruction or two in which it is handed over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "mp/memory/arena.hpp"
#include "mp/pickle/bytes.hpp"

namespace mp::pool {

struct Parcel {
  std::uint32_t size = 0;     // bytes of payload
  std::uint32_t carried = 0;  // references behind it, 8 bytes each, from the next multiple of 8 on
  memory::Offset block = 0;   // where both lie; 0 = in place, then nothing is carried
};
static_assert(sizeof(Parcel) == 16);

// Whether what was written lies in `place`, and nothing is carried.
inline bool lies_in(const std::byte* place, const pickle::Writer& writer) noexcept {
  return writer.bytes().data() == place && writer.carried().empty();
}

// Turns what was written into the parcel `to`, which is empty: in a block, the writer's own if it has one, else a copy.
// Takes the carried references over. Throws SharedMemoryFull (the writer keeps everything then).
void seal_in_block(pickle::Writer& writer, Parcel& to);

// The same, in `place` where it lies there.
inline void seal(pickle::Writer& writer, const std::byte* place, Parcel& to) {
  if (lies_in(place, writer)) [[likely]]
    to = {static_cast<std::uint32_t>(writer.size()), 0, 0};
  else seal_in_block(writer, to);
}

// The payload of a parcel whose in-place bytes would lie at `place`. Throws UnpicklingError if its numbers name no such bytes: another
// process may have written them.
std::span<const std::byte> payload(Parcel parcel, std::span<const std::byte> place);

// Frees the block and releases what is carried. The parcel is empty afterwards. What its numbers name wrongly is left alone.
void discard(Parcel& parcel) noexcept;

}  // namespace mp::pool
