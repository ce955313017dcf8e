#include "mp/channel/parcel.hpp"

#include "mp/errors.hpp"

namespace mp::channel {

memory::Ref make_blob(std::size_t size, std::size_t carried) {
  const std::size_t most = memory::detail::capacity;
  if (size > most || carried > most / sizeof(Offset)) throw SharedMemoryFull(size, memory::usage().committed, most);
  return memory::create<Blob>(memory::Kind::bytes, 0, (size + 7) / 8 * 8 + carried * sizeof(Offset),
                              Blob{size, carried});
}

bool is_blob(Offset object) noexcept {
  const Blob* blob = memory::try_object<Blob>(object, memory::Kind::bytes);
  if (blob == nullptr) return false;
  const std::size_t room = memory::room_at(object) - sizeof(Blob), size = blob->size, carried = blob->carried;
  return size <= room && carried <= room / sizeof(Offset) && (size + 7) / 8 * 8 + carried * sizeof(Offset) <= room;
}

}  // namespace mp::channel
