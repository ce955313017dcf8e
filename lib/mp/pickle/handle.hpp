// For the authors of handles (lock, queue, value, ...): what their mp_pickle and mp_unpickle consist of. A handle travels as
// its object's offset; the message keeps the object until it has been read.
#pragma once

#include <cstdint>

#include "mp/memory/ref.hpp"
#include "mp/pickle/bytes.hpp"

namespace mp::pickle {

// Throws ValueError for an empty Ref: that of a handle that was moved from.
void dump_ref(Writer& w, const memory::Ref& ref);

// Checks that the offset names a live object of that kind (and element type, unless 0), whose block has room for a `T`. Throws
// UnpicklingError.
memory::Ref load_ref(Reader& r, memory::Kind kind, std::uint64_t type, std::size_t size);
template <class T>
memory::Ref load_ref(Reader& r, memory::Kind kind, std::uint64_t type = 0) {
  return load_ref(r, kind, type, sizeof(T));
}

}  // namespace mp::pickle
