#include "mp/pickle/handle.hpp"

#include "mp/errors.hpp"

namespace mp::pickle {

void dump_ref(Writer& w, const memory::Ref& ref) {
  w.put(ref.offset());
  if (ref) w.carry(ref.offset());
}

memory::Ref load_ref(Reader& r, memory::Kind kind, std::uint64_t type) {
  const auto offset = r.get<std::uint64_t>("handle");
  if (offset == 0) return {};
  if (!memory::is_object(offset, kind, type))
    malformed("handle", "it names no shared object of that kind and type in this family (any more)");
  return memory::Ref(offset);
}

}  // namespace mp::pickle
