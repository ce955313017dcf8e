// A message on its way in or out of a stream: where its bytes lie, and the shared objects that it keeps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "mp/memory/arena.hpp"
#include "mp/memory/ref.hpp"

namespace mp::channel {

using memory::Offset;

// A message with at most this many bytes, carried offsets included, lies in the stream itself.
inline constexpr std::size_t kLargestSmall = 8 * 1024;

// A large message: an object of its own (Kind::bytes). The payload follows, and behind it, from the next multiple of 8 on,
// the offsets of what it carries.
struct Blob {
  std::uint64_t size;     // bytes of payload
  std::uint64_t carried;  // objects carried, one count of each being the Blob's from its commit on
  std::byte* payload() noexcept { return reinterpret_cast<std::byte*>(this + 1); }
  Offset* carried_offsets() noexcept { return reinterpret_cast<Offset*>(payload() + (size + 7) / 8 * 8); }
};
static_assert(sizeof(Blob) == 16);

// A Blob for `size` bytes and `carried` offsets, neither filled in. While the Ref lives, a kill leaks nothing.
// Throws SharedMemoryFull.
memory::Ref make_blob(std::size_t size, std::size_t carried);

// Whether `object` names a Blob whose numbers agree with its block.
bool is_blob(Offset object) noexcept;

// What was taken out of a stream: the bytes, and the counts that came with them until it is destroyed.
class Parcel {
 public:
  Parcel() noexcept = default;
  ~Parcel() { clear(); }
  Parcel(const Parcel&) = delete;
  Parcel& operator=(const Parcel&) = delete;

  std::span<const std::byte> payload() const noexcept { return payload_; }
  void clear() noexcept {
    for (Offset object : carried_) memory::try_release(object);
    carried_ = {};
    payload_ = {};
    blob_ = {};
  }

 private:
  friend class Stream;
  std::span<const std::byte> payload_;
  std::span<const Offset> carried_;
  memory::Ref blob_;
  alignas(8) std::byte small_[kLargestSmall];
};

}  // namespace mp::channel
