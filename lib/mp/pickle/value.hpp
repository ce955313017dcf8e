// Values to bytes and back: dump and load (the bare payload), dump_message and load_message (fingerprint first), dumps and loads (a
// string of bytes, as Python's). What is sent how is decided in shape.hpp; what cannot be sent does not compile (refusal.hpp).
// Numbers cross in this machine's own byte order; padding never does.
#pragma once

#include <string>

#include "mp/pickle/bytes.hpp"
#include "mp/pickle/fingerprint.hpp"
#include "mp/pickle/value_impl.hpp"

namespace mp::pickle {

// Writes `value`. Throws PicklingError (nested too deep, a cycle of shared_ptr, an object that would be sliced, an error category or function
// that has no name), std::bad_alloc, or what a type's own mp_pickle throws.
template <class T>
void dump(Writer& w, const T& value) {
  require_picklable<T>();
  if constexpr (Picklable<T>) detail::dump_value<std::remove_cv_t<T>>(w, value);
}

// Reads a T. Throws UnpicklingError whatever the bytes are, std::bad_alloc, or what a type's own mp_unpickle throws.
template <class T>
T load(Reader& r) {
  require_picklable<T>();
  if constexpr (Picklable<T>) return detail::load_value<std::remove_cv_t<T>>(r);
  else __builtin_unreachable();
}

// The same behind the type's fingerprint.
template <class T>
void dump_message(Writer& w, const T& value) {
  w.put(fingerprint<T>());
  static_cast<void>(detail::type_note<T>);
  dump(w, value);
}
template <class T>
T load_message(Reader& r) {
  static_cast<void>(detail::type_note<T>);
  if (const auto found = r.get<std::uint64_t>("message"); found != fingerprint<T>()) [[unlikely]]
    detail::wrong_type(found, type_name<T>());
  return load<T>(r);
}

namespace detail {
std::string string_of(const Writer& w);
void expect_end(const Reader& r, std::string_view what);
}  // namespace detail

// A message as a string of bytes. Shared objects cannot be in it, for nothing would keep them: PicklingError.
template <class T>
std::string dumps(const T& value) {
  Writer w;
  dump_message(w, value);
  return detail::string_of(w);
}
template <class T>
T loads(std::string_view bytes) {
  Reader r(std::as_bytes(std::span(bytes)));
  T value = load_message<T>(r);
  detail::expect_end(r, type_name<T>());
  return value;
}

}  // namespace mp::pickle
