// The shape of a CBOR item (RFC 8949), looked at without recursion and without json.hpp.
#include <cstdint>
#include <string_view>
#include <vector>

#include "mp/pickle/bytes.hpp"

namespace mp::pickle::detail {

void check_cbor(std::string_view cbor, std::string_view what) {
  Reader r(std::as_bytes(std::span(cbor)));
  // Items still to come at each level of nesting.
  std::vector<std::uint64_t> left{1};
  while (!left.empty()) {
    if (left.back() == 0) {
      left.pop_back();
      continue;
    }
    --left.back();
    const auto first = r.get<std::uint8_t>(what);
    const unsigned major = first >> 5, detail = first & 31;
    std::uint64_t argument = detail;
    if (detail >= 24) {
      // Items of unknown length and reserved forms are never written by to_cbor.
      if (detail > 27) malformed(what, "it is not the CBOR that is written here");
      argument = 0;
      for (unsigned i = 0; i < 1u << (detail - 24); ++i) argument = argument << 8 | r.get<std::uint8_t>(what);
    }
    switch (major) {
      case 2:
      case 3: r.take(argument <= r.remaining() ? static_cast<std::size_t>(argument) : SIZE_MAX, what); break;
      case 4:
      case 5:
        if (argument > r.remaining()) malformed(what, "it has more elements than bytes are left in the message");
        if (left.size() == kMaxDepth) too_deep_to_read();
        left.push_back(major == 4 ? argument : 2 * argument);
        break;
      default: break;
    }
  }
  if (r.remaining() != 0) malformed(what, "bytes are left over behind it");
}

}  // namespace mp::pickle::detail
