#include "mp/channel/codec.hpp"

#include <cstring>

namespace mp::channel {

void Outgoing::seal_large(std::size_t carried) {
  const std::size_t size = writer_.size();
  if (blob_ && writer_.in_place() && carried == 0) {
    blob_.as<Blob>().size = size;
  } else {
    memory::Ref blob = make_blob(size, carried);
    Blob& to = blob.as<Blob>();
    std::memcpy(to.payload(), writer_.bytes().data(), size);
    if (carried != 0) std::memcpy(to.carried_offsets(), writer_.carried().data(), carried * sizeof(Offset));
    blob_ = std::move(blob);
  }
  large_ = true;
}

}  // namespace mp::channel
