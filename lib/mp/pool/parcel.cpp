#include "mp/pool/parcel.hpp"

#include <cstring>
#include <string>

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

void seal_in_block(pickle::Writer& writer, Parcel& to) {
  const auto bytes = writer.bytes();
  const auto carried = writer.carried();
  // Beyond what a parcel can count: pass big data as mp::Array, which is not copied.
  if (bytes.size() > UINT32_MAX - 8) throw SharedMemoryFull(bytes.size(), memory::usage().committed, UINT32_MAX);
  const auto fill = [&](memory::Offset block) {
    if (!carried.empty())
      std::memcpy(memory::at<std::byte>(block) + rounded(bytes.size()), carried.data(), carried.size_bytes());
    to.size = static_cast<std::uint32_t>(bytes.size());
    to.carried = static_cast<std::uint32_t>(carried.size());
  };
  // The writer's own block serves as it is, unless more than half of it is empty.
  if (writer.in_block() && writer.room() >= behind(bytes.size(), carried) && writer.room() <= bytes.size()) {
    fill(memory::offset_of(bytes.data()));
    writer.give_block(to.block);
  } else {
    memory::NewBlock block(bytes.size() + behind(bytes.size(), carried));
    if (!bytes.empty()) std::memcpy(memory::at<void>(block.offset()), bytes.data(), bytes.size());
    fill(block.offset());
    to.block = block.hand_out();
  }
  writer.detach();
}

std::span<const std::byte> payload(Parcel parcel, std::span<const std::byte> place) {
  const std::byte* bytes = parcel.block != 0             ? memory::block_at(parcel.block, parcel.size)
                           : parcel.size <= place.size() ? place.data()
                                                         : nullptr;
  if (bytes == nullptr && (parcel.size != 0 || parcel.block != 0))
    throw UnpicklingError("the bytes of a task or its result are not where they should be in shared memory: " +
                          std::to_string(parcel.size) + " bytes at offset " + std::to_string(parcel.block));
  return {bytes, parcel.size};
}

void discard(Parcel& parcel) noexcept {
  // Forgets each thing before it lets go of it: after a death in between, another begins again.
  if (parcel.block != 0) {
    if (const auto* carried = memory::array_at<memory::Offset>(parcel.block + rounded(parcel.size), parcel.carried))
      while (parcel.carried > 0) memory::try_release(carried[--parcel.carried]);
    memory::try_deallocate_recorded(parcel.block);
  }
  parcel = {};
}

}  // namespace mp::pool
