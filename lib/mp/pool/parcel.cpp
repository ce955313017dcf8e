#include "mp/pool/parcel.hpp"

#include <cstring>

#include "mp/errors.hpp"
#include "mp/memory/ref.hpp"

namespace mp::pool {
namespace {

constexpr std::size_t rounded(std::size_t n) noexcept { return (n + 7) & ~std::size_t{7}; }

}  // namespace

Parcel seal_in_block(pickle::Writer& writer) {
  auto bytes = writer.bytes();
  auto carried = writer.carried();
  Parcel parcel{static_cast<std::uint32_t>(bytes.size()), static_cast<std::uint32_t>(carried.size()), 0};
  // Beyond what a parcel can count: pass big data as mp::Array, which is not copied.
  if (bytes.size() > UINT32_MAX - 8) throw SharedMemoryFull(bytes.size(), memory::usage().committed, UINT32_MAX);
  parcel.block = memory::allocate(rounded(bytes.size()) + carried.size_bytes());
  std::byte* to = memory::at<std::byte>(parcel.block);
  if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
  if (!carried.empty()) std::memcpy(to + rounded(bytes.size()), carried.data(), carried.size_bytes());
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
