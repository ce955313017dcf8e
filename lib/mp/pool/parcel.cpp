#include "mp/pool/parcel.hpp"

#include <cstring>

#include "mp/errors.hpp"
#include "mp/memory/ref.hpp"

namespace mp::pool {
namespace {

constexpr std::size_t rounded(std::size_t n) noexcept { return (n + 7) & ~std::size_t{7}; }

// What a parcel's block holds behind its payload.
std::size_t behind(std::size_t size, std::span<const memory::Offset> carried) noexcept {
  return rounded(size) - size + carried.size_bytes();
}

}  // namespace

Parcel seal_in_block(pickle::Writer& writer) {
  const auto bytes = writer.bytes();
  const auto carried = writer.carried();
  Parcel parcel{static_cast<std::uint32_t>(bytes.size()), static_cast<std::uint32_t>(carried.size()), 0};
  // Beyond what a parcel can count: pass big data as mp::Array, which is not copied.
  if (bytes.size() > UINT32_MAX - 8) throw SharedMemoryFull(bytes.size(), memory::usage().committed, UINT32_MAX);
  // The writer's own block serves as it is, unless more than half of it is empty.
  if (writer.in_block() && writer.room() >= behind(bytes.size(), carried) && writer.room() <= bytes.size()) {
    parcel.block = writer.give_block();
  } else {
    parcel.block = memory::allocate(bytes.size() + behind(bytes.size(), carried));
    if (!bytes.empty()) std::memcpy(memory::at<void>(parcel.block), bytes.data(), bytes.size());
  }
  if (!carried.empty())
    std::memcpy(memory::at<std::byte>(parcel.block) + rounded(bytes.size()), carried.data(), carried.size_bytes());
  writer.detach();
  return parcel;
}

void discard(Parcel& parcel) noexcept {
  if (parcel.block) {
    const auto* carried = memory::at<const memory::Offset>(parcel.block + rounded(parcel.size));
    for (std::uint32_t i = 0; i < parcel.carried; ++i) memory::release(carried[i]);
    memory::deallocate(parcel.block);
  }
  parcel = {};
}

}  // namespace mp::pool
