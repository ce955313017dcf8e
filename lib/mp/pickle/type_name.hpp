// Names and hashes of types that are the same in every process and, as far as it can be had, under every compiler: the spelling is taken
// from the compiler and freed of what differs (spaces, inline namespaces, suffixes of numbers); template arguments that are types are
// hashed as types. Counterpart of the class names in Python's pickles.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace mp::pickle {

namespace detail {

template <class T>
constexpr auto spelled() {
  std::string_view text = __PRETTY_FUNCTION__;  // "... [with T = int]" or "... [T = int]"
  text.remove_prefix(text.find("T = ") + 4);
  return text.substr(0, text.rfind(']'));
}

inline constexpr std::uint64_t kSeed = 0xcbf29ce484222325u;

constexpr std::uint64_t mix(std::uint64_t hash, std::uint64_t more) noexcept {
  hash ^= more + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
  hash ^= hash >> 32;
  hash *= 0xd6e8feb86659fd93u;
  return hash ^ (hash >> 29);
}

constexpr bool in_word(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// What one compiler spells like this and another like that; longer ones first.
struct Alias {
  std::string_view from, to;
};
inline constexpr std::array<Alias, 9> kAliases{{{"long long unsigned int", "unsigned long long"},
                                                {"long unsigned int", "unsigned long"},
                                                {"long long int", "long long"},
                                                {"long int", "long"},
                                                {"short unsigned int", "unsigned short"},
                                                {"short int", "short"},
                                                {"(anonymous namespace)", "?"},
                                                {"{anonymous}", "?"},
                                                {"__cxx11::", ""}}};

constexpr Alias alias_at(std::string_view text) noexcept {
  for (const Alias& alias : kAliases)
    if (text.starts_with(alias.from)) return alias;
  return {};
}

// FNV-1a over the spelling, less what compilers spell differently.
constexpr std::uint64_t hash_spelling(std::string_view text) noexcept {
  std::uint64_t hash = kSeed;
  bool number = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i == 0 || !in_word(text[i - 1])) {
      if (const Alias alias = alias_at(text.substr(i)); !alias.from.empty()) {
        for (char c : alias.to)
          if (c != ' ') hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
        i += alias.from.size() - 1;
        continue;
      }
    }
    const char c = text[i];
    if (c == ' ') continue;
    const bool digit = c >= '0' && c <= '9';
    if (!in_word(c)) number = false;
    if (digit && (i == 0 || !in_word(text[i - 1]))) number = true;
    if (number && !digit) continue;  // 3UL
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  }
  return hash;
}

// "std::vector" of "std::vector<int, std::allocator<int> >".
constexpr std::string_view template_name(std::string_view text) noexcept {
  if (!text.ends_with('>')) return text;
  int depth = 0;
  for (std::size_t i = text.size(); i-- > 0;) {
    if (text[i] == '>') ++depth;
    if (text[i] == '<' && --depth == 0) return text.substr(0, i);
  }
  return text;
}

template <class T>
struct TypeHash {
  static constexpr std::uint64_t value() {
    // By what it is, not by its name: long and long long are one type here.
    if constexpr (std::is_same_v<T, bool>) return hash_spelling("bool");
    else if constexpr (std::is_integral_v<T>) return mix(hash_spelling("integer"), sizeof(T) * 2 + std::is_signed_v<T>);
    else if constexpr (std::is_floating_point_v<T>) return mix(hash_spelling("floating"), sizeof(T));
    else if constexpr (std::is_void_v<T>) return hash_spelling("void");
    else return hash_spelling(spelled<T>());
  }
};
template <class T>
struct TypeHash<const T> {
  static constexpr std::uint64_t value() { return mix(TypeHash<T>::value(), 'c'); }
};
template <class T>
struct TypeHash<T*> {
  static constexpr std::uint64_t value() { return mix(TypeHash<T>::value(), 'p'); }
};
template <class T>
struct TypeHash<T&> {
  static constexpr std::uint64_t value() { return mix(TypeHash<T>::value(), 'r'); }
};
template <class R, class... A>
struct TypeHash<R(A...)> {
  static constexpr std::uint64_t value() {
    std::uint64_t hash = mix(hash_spelling("function"), TypeHash<R>::value());
    ((hash = mix(hash, TypeHash<A>::value())), ...);
    return hash;
  }
};
template <template <class...> class X, class... A>
struct TypeHash<X<A...>> {
  static constexpr std::uint64_t value() {
    std::uint64_t hash = hash_spelling(template_name(spelled<X<A...>>()));
    ((hash = mix(hash, TypeHash<A>::value())), ...);
    return hash;
  }
};
template <class T, std::size_t n>
struct TypeHash<std::array<T, n>> {
  static constexpr std::uint64_t value() { return mix(mix(hash_spelling("std::array"), TypeHash<T>::value()), n); }
};

}  // namespace detail

namespace detail {
template <class T>
inline constexpr std::string_view kTypeName = spelled<T>();  // a variable, lest it be searched for at run time
}

// As this compiler spells it, for messages.
template <class T>
constexpr std::string_view type_name() noexcept {
  return detail::kTypeName<T>;
}

template <class T>
inline constexpr std::uint64_t type_hash = detail::TypeHash<T>::value();

}  // namespace mp::pickle
