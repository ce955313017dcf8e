// The shared part of a pipe: a stream each way and who has which end open. Private to the room; users see connection.hpp.
//
//   end 0  --- streams[1] -->  end 1        end i reads streams[i] and writes streams[1 - i]
//          <-- streams[0] ---
//
// *If a process is killed*: see stream.hpp for messages, openers.hpp for ends.
#pragma once

#include <cstdint>
#include <span>

#include "mp/channel/openers.hpp"
#include "mp/channel/stream.hpp"
#include "mp/memory/arena.hpp"
#include "mp/memory/family.hpp"
#include "mp/memory/ref.hpp"

namespace mp::channel {

// A send waits while more than this is under way and not received. One message may be larger.
inline constexpr std::uint64_t kPipeBytes = 1 << 20;

// What begins a message of bytes, where others have the fingerprint of their type.
inline constexpr std::uint64_t kBytesMessage = 0x7365'7479'6270'6d01;

struct PipeState {
  PipeState(bool both_ways, Offset token0, Offset token1)
      : streams{Stream({.bytes = kPipeBytes}), Stream({.bytes = kPipeBytes})},
        openers{Openers(token0), Openers(token1)},
        tokens{token0, token1},
        duplex(both_ways) {}

  // End `side` is gone: whoever waits at the other looks again.
  void hang_up() noexcept {
    streams[0].wake_all();
    streams[1].wake_all();
  }

  Stream streams[2];
  Openers openers[2];
  std::atomic<Offset> tokens[2];  // what handles in messages hold; 0 once they are given up
  const bool duplex;              // false: end 0 only receives, end 1 only sends
};

// A new pipe (Kind::stream) that nobody has open. Throws SharedMemoryFull, OSError.
memory::Ref make_pipe(bool duplex);

// What a child that is about to be forked gets of the connections that its callable and arguments hold: `objects` is what a
// memory::Recorder noted while they were copied or moved. Other connections count as open in the child from their first use there.
// For the process room; call it before memory::fork_as(child). Throws SharedMemoryFull.
void keep_in_child(memory::Tag child, std::span<const Offset> objects);

}  // namespace mp::channel
