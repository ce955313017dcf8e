// Values in and out of streams. A value that is flat and small crosses as its bytes, with the size known to the compiler; others are
// written on the stack, or, where they will be large, straight into the arena, and read where they lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "mp/channel/parcel.hpp"
#include "mp/channel/stream.hpp"
#include "mp/memory/ref.hpp"
#include "mp/pickle/bytes.hpp"
#include "mp/pickle/value.hpp"

namespace mp::channel {

template <class T>
inline constexpr bool kSmallFlat = pickle::detail::kFlat<T> && sizeof(T) <= 1024;

// About how many bytes `value` will be written as, where that can be told beforehand; else 0.
template <class T>
std::size_t expected_size(const T& value) noexcept {
  if constexpr (pickle::detail::kFlat<T>) {
    return sizeof(T);
  } else if constexpr (pickle::detail::kForm<T> == pickle::detail::Form::text) {
    return value.size() * sizeof(typename T::value_type) + 16;
  } else if constexpr (pickle::detail::Contiguous<T>) {
    if constexpr (pickle::detail::kFlat<typename T::value_type>)
      return value.size() * sizeof(typename T::value_type) + 16;
    else return 0;
  } else {
    return 0;
  }
}

// A message on its way into a stream: write it, seal it, then try until it is in. Until then it owns what it carries.
class Outgoing {
 public:
  // Throws SharedMemoryFull if `expected` is large and there is no room for it.
  explicit Outgoing(std::size_t expected)
      : blob_(expected > kLargestSmall ? make_blob(expected, 0) : memory::Ref()),
        writer_(blob_ ? std::span(blob_.as<Blob>().payload(), expected) : std::span(buffer_)) {}

  pickle::Writer& writer() noexcept { return writer_; }

  // Everything is written. Moves it to a Blob if it is large and not there yet. Throws SharedMemoryFull.
  void seal() {
    const std::size_t carried = writer_.carried().size();
    if (round8(writer_.size()) + carried * sizeof(Offset) > kLargestSmall) seal_large(carried);
  }
  Put try_put(Stream& stream) {
    const Put result = large_ ? stream.try_put(blob_) : stream.try_put(writer_.bytes(), writer_.carried());
    if (is_in(result)) writer_.detach();
    return result;
  }

 private:
  void seal_large(std::size_t carried);

  alignas(8) std::byte buffer_[kLargestSmall];
  memory::Ref blob_;
  pickle::Writer writer_;
  bool large_ = false;
};

// Reads a T and nothing but a T.
template <class T>
T decode(std::span<const std::byte> payload) {
  pickle::Reader reader(payload);
  T value = pickle::load<T>(reader);
  pickle::detail::expect_end(reader, pickle::type_name<T>());
  return value;
}

}  // namespace mp::channel
