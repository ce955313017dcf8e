// The bodies behind value.hpp: one function that writes, one that reads, each a choice by the type's form.
#pragma once

#include <cstring>
#include <limits>
#include <typeinfo>
#include <utility>

#include "mp/pickle/fingerprint.hpp"

namespace mp::pickle::detail {

// x87's 80 bits lie in 16 bytes, of which 6 are padding.
inline constexpr std::size_t kLongDoubleBytes =
    std::numeric_limits<long double>::digits == 64 ? 10 : sizeof(long double);

// Elements reserved at once on a stranger's word for how many there are.
template <class E>
inline constexpr std::size_t kReserve = sizeof(E) < 65536 ? 65536 / sizeof(E) : 1;

void dump_category(Writer& w, const std::error_category& category);
const std::error_category& load_category(Reader& r);
void dump_exception_value(Writer& w, const std::exception_ptr& e);
std::exception_ptr load_exception_value(Reader& r);

// Where shared_ptr and weak_ptr meet (bytes.cpp, shared.hpp).
enum class Pointee : std::uint8_t { null, first, before };
bool meet_shared(Writer& w, const void* object, std::uint64_t type);  // true: write the object now, then finish_shared
void finish_shared(Writer& w, const void* object, std::uint64_t type) noexcept;
std::uint64_t reserve_shared(Reader& r);
void fill_shared(Reader& r, std::uint64_t number, std::shared_ptr<void> object, std::uint64_t type);
std::shared_ptr<void> find_shared(Reader& r, std::uint64_t type);
[[noreturn]] void refuse_slicing(std::string_view pointer, const std::type_info& object);

template <class T>
void dump_value(Writer& w, const T& value);
template <class T>
T load_value(Reader& r);
template <class T>
void load_into(Reader& r, T& value);

// One element of a container: never nothing, so that a count can be checked against the bytes that are left.
template <class E>
void dump_element(Writer& w, const E& element) {
  dump_value<std::remove_cv_t<E>>(w, element);
  if constexpr (may_be_nothing<std::remove_cv_t<E>>()) w.put(std::uint8_t{0});
}
template <class E>
E load_element(Reader& r) {
  if constexpr (may_be_nothing<E>()) {
    E element = load_value<E>(r);
    r.take(1, "container");
    return element;
  } else {
    return load_value<E>(r);
  }
}

template <class T>
std::size_t length_of(const T& container) {
  if constexpr (requires { container.size(); }) return container.size();
  else return static_cast<std::size_t>(std::distance(container.begin(), container.end()));
}

template <class Pointer>
void refuse_slice(const typename Pointer::element_type& object) {
  if constexpr (std::is_polymorphic_v<typename Pointer::element_type>) {
    if (typeid(object) != typeid(typename Pointer::element_type)) refuse_slicing(type_name<Pointer>(), typeid(object));
  }
}

template <class E>
void dump_shared(Writer& w, const std::shared_ptr<E>& pointer) {
  using Object = std::remove_const_t<E>;
  if (!pointer) return w.put(static_cast<std::uint8_t>(Pointee::null));
  refuse_slice<std::shared_ptr<E>>(*pointer);
  if (!meet_shared(w, pointer.get(), fingerprint_of<Object>())) return;
  Writer::Level level(w);
  dump_value<Object>(w, *pointer);
  finish_shared(w, pointer.get(), fingerprint_of<Object>());
}

template <class E>
std::shared_ptr<E> load_shared(Reader& r) {
  using Object = std::remove_const_t<E>;
  switch (static_cast<Pointee>(r.get<std::uint8_t>(type_name<E>()))) {
    case Pointee::null: return nullptr;
    case Pointee::before: return std::static_pointer_cast<Object>(find_shared(r, fingerprint_of<Object>()));
    case Pointee::first: {
      Reader::Level level(r);
      const std::uint64_t number = reserve_shared(r);
      std::shared_ptr<Object> object(new Object(load_value<Object>(r)));
      fill_shared(r, number, object, fingerprint_of<Object>());
      return object;
    }
  }
  malformed(type_name<std::shared_ptr<E>>(), "it is marked neither null nor new nor known");
}

template <class T>
void dump_bits(Writer& w, const T& bits, std::size_t count) {
  for (std::size_t i = 0; i < count; i += 8) {
    std::uint8_t byte = 0;
    for (std::size_t j = i; j < count && j < i + 8; ++j) byte |= static_cast<std::uint8_t>(bool(bits[j]) << (j - i));
    w.put(byte);
  }
}
template <class T>
void load_bits(Reader& r, T& bits, std::size_t count) {
  for (std::size_t i = 0; i < count; i += 8) {
    const auto byte = r.get<std::uint8_t>(type_name<T>());
    for (std::size_t j = i; j < count && j < i + 8; ++j) bits[j] = (byte >> (j - i) & 1) != 0;
  }
}

template <class T>
void dump_value(Writer& w, const T& value) {
  constexpr Form f = kForm<T>;
  if constexpr (kFlat<T>) {
    std::memcpy(w.claim(sizeof(T)), &value, sizeof(T));
  } else if constexpr (f == Form::own) {
    value.mp_pickle(w);
  } else if constexpr (f == Form::own_free) {
    mp_pickle(w, value);
  } else if constexpr (f == Form::boolean) {
    w.put(static_cast<std::uint8_t>(value));
  } else if constexpr (f == Form::long_double) {
    w.write(&value, kLongDoubleBytes);
  } else if constexpr (f == Form::enumeration) {
    w.put(static_cast<std::uint8_t>(value));  // over bool; the others are flat
  } else if constexpr (f == Form::text) {
    w.put_size(value.size());
    w.write(value.data(), value.size() * sizeof(typename T::value_type));
  } else if constexpr (f == Form::array) {
    for (const auto& element : value) dump_value<std::remove_cvref_t<decltype(element)>>(w, element);
  } else if constexpr (f == Form::tuple) {
    std::apply([&](const auto&... part) { (dump_value<std::remove_cvref_t<decltype(part)>>(w, part), ...); }, value);
  } else if constexpr (f == Form::optional) {
    w.put(static_cast<std::uint8_t>(value.has_value()));
    if (value) dump_value<typename T::value_type>(w, *value);
  } else if constexpr (f == Form::variant) {
    static_assert(std::variant_size_v<T> < 256);
    w.put(static_cast<std::uint8_t>(value.index()));
    std::visit([&](const auto& held) { dump_value<std::remove_cvref_t<decltype(held)>>(w, held); }, value);
  } else if constexpr (f == Form::bits) {
    w.put_size((value.size() + 7) / 8);
    w.put(static_cast<std::uint8_t>(-value.size() & 7));  // bits of the last byte that are not in use
    dump_bits(w, value, value.size());
  } else if constexpr (f == Form::sequence || f == Form::forward_list || f == Form::set || f == Form::map) {
    w.put_size(length_of(value));
    using E = typename T::value_type;
    if constexpr (Contiguous<T> && kFlat<E>) {
      w.write(value.data(), value.size() * sizeof(E));
    } else {
      Writer::Level level(w);
      for (const auto& element : value) {
        if constexpr (f == Form::map) {
          dump_element(w, element.first);
          dump_element(w, element.second);
        } else {
          dump_element<E>(w, element);
        }
      }
    }
  } else if constexpr (f == Form::unique) {
    w.put(static_cast<std::uint8_t>(value != nullptr));
    if (value) {
      refuse_slice<T>(*value);
      Writer::Level level(w);
      dump_value<std::remove_const_t<typename T::element_type>>(w, *value);
    }
  } else if constexpr (f == Form::shared) {
    dump_shared(w, value);
  } else if constexpr (f == Form::weak) {
    dump_shared(w, value.lock());
  } else if constexpr (f == Form::duration) {
    dump_value<typename T::rep>(w, value.count());
  } else if constexpr (f == Form::time_point) {
    dump_value<typename T::duration>(w, value.time_since_epoch());
  } else if constexpr (f == Form::complex) {
    dump_value<typename T::value_type>(w, value.real());
    dump_value<typename T::value_type>(w, value.imag());
  } else if constexpr (f == Form::bitset) {
    dump_bits(w, value, value.size());
  } else if constexpr (f == Form::path) {
    dump_value<typename T::string_type>(w, value.native());
  } else if constexpr (f == Form::error_code || f == Form::error_condition) {
    dump_category(w, value.category());
    w.put(value.value());
  } else if constexpr (f == Form::exception) {
    dump_exception_value(w, value);
  } else if constexpr (f == Form::aggregate) {
    with_members<T>(value, [&]<class...>(const auto&... member) {
      (dump_value<std::remove_cvref_t<decltype(member)>>(w, member), ...);
    });
  } else if constexpr (f == Form::foreign) {
    Foreign<T>::dump(w, value);
  } else {
    static_assert(f == Form::nothing);
  }
}

template <class T>
T load_sequence(Reader& r) {
  using E = typename T::value_type;
  T result{};
  if constexpr (kForm<T> == Form::map) {
    using K = typename T::key_type;
    using M = typename T::mapped_type;
    Reader::Level level(r);
    for (std::size_t n = r.get_size(2, type_name<T>()); n > 0; --n) {
      K key = load_element<K>(r);
      result.emplace_hint(result.end(), std::move(key), load_element<M>(r));
    }
  } else if constexpr (Contiguous<T> && kFlat<E> && std::is_default_constructible_v<E>) {
    const std::size_t n = r.get_size(sizeof(E), type_name<T>());
    if constexpr (requires { result.reserve(n); }) {
      result.reserve(n);
      about_to_fill(result.data(), n * sizeof(E));
    }
    // In steps that stay in the cache: resize() writes zeros first, which would else be a pass through memory of its own.
    for (std::size_t done = 0, step; done < n; done += step) {
      step = n - done < kReserve<E> ? n - done : kReserve<E>;
      result.resize(done + step);
      r.read(result.data() + done, step * sizeof(E), type_name<T>());
    }
  } else {
    constexpr std::size_t each = kFlat<E> ? sizeof(E) : 1;
    Reader::Level level(r);
    std::size_t n = r.get_size(each, type_name<T>());
    if constexpr (requires { result.reserve(n); }) result.reserve(n < kReserve<E> ? n : kReserve<E>);
    if constexpr (kForm<T> == Form::forward_list) {
      for (auto last = result.before_begin(); n > 0; --n) last = result.insert_after(last, load_element<E>(r));
    } else {
      for (; n > 0; --n) {
        if constexpr (kForm<T> == Form::set) result.emplace_hint(result.end(), load_element<E>(r));
        else result.push_back(load_element<E>(r));
      }
    }
  }
  return result;
}

template <class V, std::size_t... i>
V load_variant(Reader& r, std::index_sequence<i...>) {
  using Load = V (*)(Reader&);
  static constexpr Load loads[] = {[](Reader& from) {
    return V(std::in_place_index<i>, load_value<std::remove_const_t<std::variant_alternative_t<i, V>>>(from));
  }...};
  const auto which = r.get<std::uint8_t>(type_name<V>());
  if (which >= sizeof...(i)) malformed(type_name<V>(), "it holds none of its alternatives");
  return loads[which](r);
}

template <class T, std::size_t... i>
T load_array(Reader& r, std::index_sequence<i...>) {
  using E = typename T::value_type;
  if constexpr (std::is_default_constructible_v<E>) {
    T result{};
    for (auto& element : result) load_into(r, element);
    return result;
  } else {
    return T{(static_cast<void>(i), load_value<E>(r))...};
  }
}

template <class T, class... P>
T load_aggregate(Reader& r, List<P...>) {
  if constexpr ((std::is_array_v<P> || ...)) {
    T result{};
    with_members<T>(result, [&]<class...>(auto&... member) { (load_into(r, member), ...); });
    return result;
  } else {
    return T{load_value<P>(r)...};
  }
}

template <class T>
T load_value(Reader& r) {
  constexpr Form f = kForm<T>;
  static_assert(!std::is_array_v<T>);
  if constexpr (kFlat<T> && std::is_default_constructible_v<T>) {
    T value;
    std::memcpy(static_cast<void*>(&value), r.take(sizeof(T), type_name<T>()), sizeof(T));
    return value;
  } else if constexpr (f == Form::enumeration) {
    return static_cast<T>(load_value<bool>(r));
  } else if constexpr (f == Form::own) {
    return T::mp_unpickle(r);
  } else if constexpr (f == Form::own_free) {
    return mp_unpickle(r, std::type_identity<T>());
  } else if constexpr (f == Form::boolean) {
    const auto byte = r.get<std::uint8_t>("bool");
    if (byte > 1) malformed("bool", "it is neither true nor false");
    return byte != 0;
  } else if constexpr (f == Form::long_double) {
    T value = 0;
    r.read(&value, kLongDoubleBytes, "long double");
    return value;
  } else if constexpr (f == Form::text) {
    using C = typename T::value_type;
    const std::size_t n = r.get_size(sizeof(C), type_name<T>());
    if constexpr (std::is_same_v<C, char>) {
      return T(reinterpret_cast<const char*>(r.take(n, type_name<T>())), n);
    } else {
      T text(n, C());
      r.read(text.data(), n * sizeof(C), type_name<T>());
      return text;
    }
  } else if constexpr (f == Form::array) {
    return load_array<T>(r, std::make_index_sequence<kExtent<T>>());
  } else if constexpr (f == Form::tuple) {
    return [&]<class... P>(List<P...>) { return T{load_value<P>(r)...}; }(Parts<T>());
  } else if constexpr (f == Form::optional) {
    if (!load_value<bool>(r)) return std::nullopt;
    return T(std::in_place, load_value<typename T::value_type>(r));
  } else if constexpr (f == Form::variant) {
    return load_variant<T>(r, std::make_index_sequence<std::variant_size_v<T>>());
  } else if constexpr (f == Form::bits) {
    const std::size_t bytes = r.get_size(1, type_name<T>());
    const auto spare = r.get<std::uint8_t>(type_name<T>());
    if (spare > (bytes == 0 ? 0 : 7)) malformed(type_name<T>(), "more bits of it are spare than one byte has");
    T bits(bytes * 8 - spare, false);
    load_bits(r, bits, bits.size());
    return bits;
  } else if constexpr (f == Form::sequence || f == Form::forward_list || f == Form::set || f == Form::map) {
    return load_sequence<T>(r);
  } else if constexpr (f == Form::unique) {
    if (!load_value<bool>(r)) return nullptr;
    Reader::Level level(r);
    using E = std::remove_const_t<typename T::element_type>;
    return T(new E(load_value<E>(r)));
  } else if constexpr (f == Form::shared) {
    return load_shared<typename T::element_type>(r);
  } else if constexpr (f == Form::weak) {
    return load_shared<typename T::element_type>(r);
  } else if constexpr (f == Form::duration) {
    return T(load_value<typename T::rep>(r));
  } else if constexpr (f == Form::time_point) {
    return T(load_value<typename T::duration>(r));
  } else if constexpr (f == Form::complex) {
    using V = typename T::value_type;
    V real = load_value<V>(r);
    return T(real, load_value<V>(r));
  } else if constexpr (f == Form::bitset) {
    T bits;
    load_bits(r, bits, bits.size());
    return bits;
  } else if constexpr (f == Form::path) {
    return T(load_value<typename T::string_type>(r));
  } else if constexpr (f == Form::error_code || f == Form::error_condition) {
    const std::error_category& category = load_category(r);
    return T(r.get<int>(type_name<T>()), category);
  } else if constexpr (f == Form::exception) {
    return load_exception_value(r);
  } else if constexpr (f == Form::aggregate) {
    return load_aggregate<T>(r, Parts<T>());
  } else if constexpr (f == Form::foreign) {
    return Foreign<T>::load(r);
  } else {
    static_assert(f == Form::nothing);
    if constexpr (std::is_same_v<T, std::nullopt_t>) return std::nullopt;
    else return T();
  }
}

template <class T>
void load_into(Reader& r, T& value) {
  if constexpr (std::is_array_v<T>) {
    for (auto& element : value) load_into(r, element);
  } else {
    value = load_value<T>(r);
  }
}

}  // namespace mp::pickle::detail
