// What kind of thing a type is to the sender: the first rule that fits decides (README.md lists them). The standard library's types are
// known by their shape rather than by name, so that their headers need not be included here, and containers
// that are built like them (Boost's, the user's) are sent as well.
#pragma once

#include <array>
#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "mp/pickle/bytes.hpp"
#include "mp/pickle/members.hpp"

namespace mp::pickle {

// Specialised for types that another library knows how to describe (mp/pickle/json.hpp):
// static void dump(Writer&, const T&); static T load(Reader&).
template <class T>
struct Foreign {
  static constexpr bool known = false;
};

namespace detail {

enum class Form {
  // sent
  own,
  own_free,
  boolean,
  arithmetic,
  long_double,
  enumeration,
  nothing,
  text,
  array,
  tuple,
  optional,
  variant,
  bits,
  sequence,
  forward_list,
  set,
  map,
  unique,
  shared,
  weak,
  duration,
  time_point,
  complex,
  bitset,
  path,
  error_code,
  error_condition,
  exception,
  aggregate,
  foreign,
  // refused
  pointer,
  reference,
  function,
  member_pointer,
  view,
  lock,
  thread,
  atomic,
  stream,
  callable,
  union_,
  many_members,
  unknown
};

constexpr bool is_refused(Form form) noexcept { return form >= Form::pointer; }

template <class T>
concept HasOwn = requires(const T& t, Writer& w, Reader& r) {
  t.mp_pickle(w);
  { T::mp_unpickle(r) } -> std::convertible_to<T>;
};
template <class T>
concept HasOwnFree = requires(const T& t, Writer& w, Reader& r) {
  mp_pickle(w, t);
  { mp_unpickle(r, std::type_identity<T>()) } -> std::convertible_to<T>;
};

__extension__ using Int128 = __int128;
__extension__ using UInt128 = unsigned __int128;

template <class T>
inline constexpr bool kIsNumber = std::is_arithmetic_v<T> || std::is_same_v<T, Int128> || std::is_same_v<T, UInt128>;

template <class T, template <class...> class X>
inline constexpr bool kIs = false;
template <class... A, template <class...> class X>
inline constexpr bool kIs<X<A...>, X> = true;

template <class T>
inline constexpr bool kIsStdArray = false;
template <class T, std::size_t n>
inline constexpr bool kIsStdArray<std::array<T, n>> = true;

// Elements of an array; 1 for everything else.
template <class T>
inline constexpr std::size_t kExtent = 1;
template <class T, std::size_t n>
inline constexpr std::size_t kExtent<T[n]> = n;
template <class T, std::size_t n>
inline constexpr std::size_t kExtent<std::array<T, n>> = n;

// Ranges. A container of itself (a path, a json value) is none to us.
template <class T>
concept Container = requires(T& t, const T& c) {
  typename T::value_type;
  c.begin() != c.end();
} && !std::is_same_v<typename T::value_type, T> && std::is_default_constructible_v<T>;
template <class T>
concept Map = Container<T> && requires(T& t, typename T::key_type k, typename T::mapped_type m) {
  t.emplace_hint(t.end(), std::move(k), std::move(m));
  t.size();
};
template <class T>
concept Set = Container<T> && requires(T& t, typename T::key_type k) {
  t.emplace_hint(t.end(), std::move(k));
  t.size();
};
template <class T>
concept Sequence = Container<T> && requires(T& t, typename T::value_type v) {
  t.push_back(std::move(v));
  t.pop_back();
  t.size();
};
template <class T>
concept ForwardList =
    Container<T> && requires(T& t, typename T::value_type v) { t.insert_after(t.before_begin(), std::move(v)); };
// Whose elements lie in one piece that can be sized beforehand.
template <class T>
concept Contiguous = Sequence<T> && requires(T& t, std::size_t n) {
  { t.data() } -> std::same_as<typename T::value_type*>;
  t.resize(n);
};
// std::vector<bool>: elements without an address.
template <class T>
concept PackedBits = Sequence<T> && std::is_same_v<typename T::value_type, bool> && requires(T& t) { t.flip(); };

template <class T>
concept View = (requires(const T& t) {
                 t.begin();
                 t.end();
               } && std::ranges::enable_view<T>) || requires(T t) {
  typename T::value_type;
  t.data();
  t.first(1);
  t.subspan(0);
};

template <class T>
concept Complex = requires(const T& t, T& m, typename T::value_type v) {
  T(v, v);
  { t.real() } -> std::convertible_to<typename T::value_type>;
  { t.imag() } -> std::convertible_to<typename T::value_type>;
} && std::is_floating_point_v<typename T::value_type> && sizeof(T) == 2 * sizeof(typename T::value_type);
template <class T>
concept BitSet = requires(T& t, const T& c) {
  t.set(0, true);
  c.test(0);
  c.count();
  c.size();
} && !requires(T& t) { t.push_back(true); } && std::is_default_constructible_v<T>;
template <class T>
concept Path = requires(const T& t, typename T::string_type s) {
  { t.native() } -> std::same_as<const typename T::string_type&>;
  T::preferred_separator;
  T(std::move(s));
};
template <class T>
inline constexpr bool kIsUnique = false;
template <class T>
  requires(!std::is_array_v<T>)
inline constexpr bool kIsUnique<std::unique_ptr<T>> = true;

template <class T>
concept Lock = requires(T& t) {
  t.lock();
  t.unlock();
} && !std::is_copy_constructible_v<T>;
template <class T>
concept Thread = requires(T& t) {
  t.join();
  t.joinable();
};
template <class T>
concept Atomic = requires(const T& t) {
  T::is_always_lock_free;
  t.load();
};
template <class T>
concept Stream = requires(T& t) { t.rdbuf(); };
template <class T>
concept Callable = requires { &T::operator(); } || requires(T& t) { t.target_type(); };

template <class T>
constexpr Form form_of() {
  using enum Form;
  if constexpr (std::is_reference_v<T>) return reference;
  else if constexpr (std::is_pointer_v<T> || std::is_null_pointer_v<T>)
    return std::is_function_v<std::remove_pointer_t<T>> ? function : pointer;
  else if constexpr (std::is_function_v<T>) return function;
  else if constexpr (std::is_member_pointer_v<T>) return member_pointer;
  else if constexpr (std::is_same_v<T, bool>) return boolean;
  else if constexpr (std::is_same_v<T, long double>) return long_double;
  else if constexpr (kIsNumber<T>) return arithmetic;
  else if constexpr (std::is_enum_v<T>) return enumeration;
  else if constexpr (std::is_bounded_array_v<T>) return array;
  else if constexpr (!std::is_class_v<T>) return std::is_union_v<T> ? union_ : unknown;
  else if constexpr (HasOwn<T>) return own;
  else if constexpr (HasOwnFree<T>) return own_free;
  else if constexpr (std::is_same_v<T, std::monostate> || std::is_same_v<T, std::nullopt_t>) return nothing;
  else if constexpr (kIs<T, std::basic_string>) return text;
  else if constexpr (kIsStdArray<T>) return array;
  else if constexpr (kIs<T, std::pair> || kIs<T, std::tuple>) return tuple;
  else if constexpr (kIs<T, std::optional>) return optional;
  else if constexpr (kIs<T, std::variant>) return variant;
  else if constexpr (kIs<T, std::chrono::duration>) return duration;
  else if constexpr (kIs<T, std::chrono::time_point>) return time_point;
  else if constexpr (kIsUnique<T>) return unique;
  else if constexpr (kIs<T, std::shared_ptr>) return shared;
  else if constexpr (kIs<T, std::weak_ptr>) return weak;
  else if constexpr (kIs<T, std::unique_ptr>) return pointer;
  else if constexpr (kIs<T, std::reference_wrapper>) return reference;
  else if constexpr (std::is_same_v<T, std::error_code>) return error_code;
  else if constexpr (std::is_same_v<T, std::error_condition>) return error_condition;
  else if constexpr (std::is_same_v<T, std::exception_ptr>) return exception;
  else if constexpr (View<T>) return view;
  else if constexpr (Path<T>) return path;
  else if constexpr (Complex<T>) return complex;
  else if constexpr (PackedBits<T>) return bits;
  else if constexpr (Map<T>) return map;
  else if constexpr (Set<T>) return set;
  else if constexpr (Sequence<T>) return sequence;
  else if constexpr (ForwardList<T>) return forward_list;
  else if constexpr (BitSet<T>) return bitset;
  else if constexpr (Atomic<T>) return atomic;
  else if constexpr (Thread<T>) return thread;
  else if constexpr (Lock<T>) return lock;
  else if constexpr (Stream<T>) return stream;
  else if constexpr (Aggregate<T>) {
    if constexpr (kMembers<T> == kNone) return reference;
    else return kMembers<T> <= kMostMembers ? aggregate : many_members;
  } else if constexpr (Foreign<T>::known) return foreign;
  else if constexpr (Callable<T>) return callable;
  else return unknown;
}

template <class T>
inline constexpr Form kForm = form_of<T>();

template <class... T>
struct List {};

// The types that a value of type T is made of.
template <class T>
constexpr auto parts_of() {
  constexpr Form f = kForm<T>;
  if constexpr (f == Form::array) return List<std::remove_cvref_t<decltype(std::declval<T&>()[0])>>();
  else if constexpr (f == Form::tuple || f == Form::variant) {
    return []<template <class...> class X, class... A>(X<A...>*) {
      return List<std::remove_const_t<A>...>();
    }(static_cast<T*>(nullptr));
  } else if constexpr (f == Form::map) return List<typename T::key_type, typename T::mapped_type>();
  else if constexpr (f == Form::set || f == Form::sequence || f == Form::forward_list || f == Form::optional)
    return List<typename T::value_type>();
  else if constexpr (f == Form::unique || f == Form::shared || f == Form::weak)
    return List<std::remove_const_t<typename T::element_type>>();
  else if constexpr (f == Form::duration) return List<typename T::rep>();
  else if constexpr (f == Form::time_point) return List<typename T::duration>();
  else if constexpr (f == Form::complex) return List<typename T::value_type>();
  else if constexpr (f == Form::aggregate) {
    using Parts = decltype(with_members<T>(std::declval<T&>(),
                                           []<class... M>(auto&...) { return List<std::remove_const_t<M>...>(); }));
    return Parts();
  } else return List<>();
}
template <class T>
using Parts = decltype(parts_of<T>());

template <class T, class... Among>
inline constexpr bool kAmong = (std::is_same_v<T, Among> || ...);

// Whether a T is sent by one copy of its bytes: plain data without padding, of which every bit pattern is a value.
template <class T>
constexpr bool is_flat();
template <class... P>
constexpr bool are_flat(List<P...>, std::size_t size) {
  return (is_flat<P>() && ...) && (sizeof(P) + ... + 0) == size;
}
template <class T>
constexpr bool is_flat() {
  constexpr Form f = kForm<T>;
  if constexpr (f == Form::arithmetic) return true;
  else if constexpr (f == Form::enumeration) return !std::is_same_v<std::underlying_type_t<T>, bool>;
  else if constexpr (!std::is_trivially_copyable_v<T>) return false;
  else if constexpr (f == Form::array)
    return sizeof(T) != 0 && !std::is_empty_v<T> &&
           []<class E>(List<E>) { return is_flat<E>() && sizeof(T) % sizeof(E) == 0; }(Parts<T>());
  else if constexpr (f == Form::duration || f == Form::time_point) return are_flat(Parts<T>(), sizeof(T));
  else if constexpr (f == Form::complex) return !std::is_same_v<typename T::value_type, long double>;
  else if constexpr (f == Form::aggregate) return !std::is_empty_v<T> && are_flat(Parts<T>(), sizeof(T));
  else return false;
}
template <class T>
inline constexpr bool kFlat = is_flat<T>();

// Whether a T may be written as no bytes at all: a container of such needs something to count.
template <class T>
constexpr bool may_be_nothing() {
  constexpr Form f = kForm<T>;
  if constexpr (f == Form::own || f == Form::own_free || f == Form::foreign || f == Form::nothing) return true;
  else if constexpr (f == Form::array || f == Form::tuple || f == Form::aggregate) {
    return kExtent<T> == 0 || []<class... P>(List<P...>) { return (may_be_nothing<P>() && ...); }(Parts<T>());
  } else return false;
}

}  // namespace detail
}  // namespace mp::pickle
