// Types that nlohmann/json can convert (to_json and from_json) are sent as CBOR, if no other rule takes them. Include this header wherever
// such a type is sent; it brings in all of nlohmann/json. Also nlohmann::json itself.
#pragma once

#include <nlohmann/json.hpp>

#include <concepts>
#include <cstdint>
#include <string>
#include <vector>

#include "mp/errors.hpp"
#include "mp/pickle/value.hpp"

namespace mp::pickle {

namespace detail {
// The library's reader follows nested items by recursion: refuses what is nested too deep, before it sees it. Throws UnpicklingError.
void check_cbor(std::string_view cbor, std::string_view what);

template <class T>
concept Jsonable =
    std::same_as<T, nlohmann::json> || requires(nlohmann::json& j, const nlohmann::json& c, T& t, const T& v) {
      to_json(j, v);
      from_json(c, t);
    } || requires(nlohmann::json& j, const nlohmann::json& c, const T& v) {
      nlohmann::adl_serializer<T>::to_json(j, v);
      { nlohmann::adl_serializer<T>::from_json(c) } -> std::same_as<T>;
    };
}  // namespace detail

template <class T>
  requires detail::Jsonable<T>
struct Foreign<T> {
  static constexpr bool known = true;

  static void dump(Writer& w, const T& value) {
    std::vector<std::uint8_t> cbor;
    try {
      cbor = nlohmann::json::to_cbor(nlohmann::json(value));
    } catch (const nlohmann::json::exception& e) {
      throw PicklingError(std::string("cannot send as JSON: ") + e.what());
    }
    w.put_size(cbor.size());
    w.write(cbor.data(), cbor.size());
  }

  static T load(Reader& r) {
    const std::string_view cbor = r.get_text(type_name<T>());
    detail::check_cbor(cbor, type_name<T>());
    try {
      return nlohmann::json::from_cbor(cbor.begin(), cbor.end()).get<T>();
    } catch (const nlohmann::json::exception& e) {
      malformed(type_name<T>(), e.what());
    }
  }
};

}  // namespace mp::pickle
