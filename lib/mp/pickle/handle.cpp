#include "mp/pickle/handle.hpp"

#include "mp/errors.hpp"

namespace mp::pickle {

void dump_ref(Writer& w, const memory::Ref& ref) {
  static_cast<void>(ref.as<std::byte>());
  w.put(ref.offset());
  w.carry(ref.offset());
}

memory::Ref load_ref(Reader& r, memory::Kind kind, std::uint64_t type, std::size_t size) {
  const auto offset = r.get<std::uint64_t>("handle");
  if (!memory::is_object(offset, kind, type) || memory::room_at(offset) < size)
    malformed("handle", "it names no shared object of that kind and type in this family (any more)");
  return memory::Ref(offset);
}

}  // namespace mp::pickle
