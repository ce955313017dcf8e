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
  if (!memory::is_object(object, memory::Kind::bytes)) return false;
  const std::size_t room = memory::block_size(object - sizeof(memory::Header));
  const Blob& blob = *memory::at<Blob>(object);
  const std::size_t front = sizeof(memory::Header) + sizeof(Blob);
  return room >= front && blob.size <= room - front && blob.carried <= (room - front - blob.size) / sizeof(Offset) &&
         (blob.size + 7) / 8 * 8 + blob.carried * sizeof(Offset) <= room - front;
}

void release_checked(Offset object) noexcept {
  if (object < sizeof(memory::Header) || memory::block_size(object - sizeof(memory::Header)) == 0) return;
  if (memory::is_object(object, memory::header_of(object).kind)) memory::release(object);
}

}  // namespace mp::channel
