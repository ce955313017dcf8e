// A number for each type that can be sent, equal in every process and binary where the type has the same name and is made
// of the same parts: a message begins with it, so that reading one as another type is an error and not nonsense.
#pragma once

#include <cstdint>

#include "mp/pickle/refusal.hpp"
#include "mp/pickle/type_name.hpp"

namespace mp::pickle {

namespace detail {

template <class T, class... Around>
constexpr std::uint64_t fingerprint_of() {
  constexpr Form f = kForm<T>;
  if constexpr (kAmong<T, Around...>) {
    return mix(type_hash<T>, 'r');
  } else if constexpr (f == Form::enumeration) {
    return mix(type_hash<T>, type_hash<std::underlying_type_t<T>>);
  } else {
    // A container's allocator, hash and order, and a deleter, are no part of what is sent.
    constexpr bool contents = f == Form::sequence || f == Form::forward_list || f == Form::set || f == Form::map;
    std::uint64_t hash = contents ? hash_spelling(template_name(spelled<T>())) : type_hash<T>;
    hash = mix(hash, kExtent<T>);
    [&]<class... P>(List<P...>) { ((hash = mix(hash, fingerprint_of<P, T, Around...>())), ...); }(Parts<T>());
    return hash;
  }
}

// The name of each type that this program sends, by fingerprint, for messages. Linked up before main.
struct TypeNote {
  TypeNote(std::uint64_t type, std::string_view spelling) noexcept;
  std::uint64_t fingerprint;
  std::string_view name;
  TypeNote* next;
};
template <class T>
inline TypeNote type_note{fingerprint_of<T>(), type_name<T>()};

// Throws UnpicklingError that names both types where they are known.
[[noreturn]] void wrong_type(std::uint64_t found, std::string_view wanted);

}  // namespace detail

template <class T>
constexpr std::uint64_t fingerprint() {
  require_picklable<T>();
  if constexpr (Picklable<T>) return detail::fingerprint_of<std::remove_cv_t<T>>();
  else return 0;
}

// The spelling of a type that this program sends or reads; empty for others.
std::string_view name_of(std::uint64_t fingerprint) noexcept;

}  // namespace mp::pickle
