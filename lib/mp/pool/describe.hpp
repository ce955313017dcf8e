// A call as people read it: the function's name, and its arguments where they have a text. Read from the bytes that were sent, only once a
// task has crashed: a task that goes well pays nothing for it. Numbers, enums, texts, and arrays, tuples, optionals, containers and
// aggregates of them have a text; of all else the type is told.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "mp/pickle/callable.hpp"
#include "mp/pickle/pickle.hpp"

namespace mp::pool {

struct Description {
  std::string function, arguments;
};

// Reads a call's bytes as its `run` does; `item`: which of a chunk's. Throws UnpicklingError where they are not what they should be.
using Describe = void (*)(pickle::Reader& in, std::uint64_t item, Description& out);

// From now on calls that `run` runs can be described. Any thread; once for each `run`; returns it.
pickle::CodeRef describable(pickle::CodeRef run, Describe describe);

// What is known of a call; empty where nothing is. Never throws.
Description describe_call(pickle::CodeRef run, std::span<const std::byte> arguments, std::uint64_t item) noexcept;

namespace text {

inline constexpr std::size_t kMost = 200;  // characters; then "..."

using pickle::detail::Form;
using pickle::detail::kForm;
using pickle::detail::List;
using pickle::detail::Parts;

// Whether a T has a text. Those that have are plain data: reading one from a message does nothing else.
template <class T, class... Around>
constexpr bool has_text() {
  constexpr Form f = kForm<T>;
  if constexpr (pickle::detail::kAmong<T, Around...>) return false;
  else if constexpr (f == Form::boolean || f == Form::enumeration || f == Form::path) return true;
  else if constexpr (f == Form::arithmetic) return std::is_arithmetic_v<T>;
  else if constexpr (f == Form::text) return sizeof(typename T::value_type) == 1;
  else if constexpr (f == Form::array || f == Form::tuple || f == Form::optional || f == Form::sequence ||
                     f == Form::set || f == Form::map || f == Form::duration || f == Form::aggregate)
    return []<class... P>(List<P...>) { return (has_text<P, T, Around...>() && ...); }(Parts<T>());
  else return false;
}

void append(std::string& out, std::int64_t value);
void append(std::string& out, std::uint64_t value);
void append(std::string& out, double value);
void append_quoted(std::string& out, std::string_view value);
void append_character(std::string& out, char value);
// Name of a function of this process; `type` where it has none.
std::string function_name(const void* function, std::string_view type);

template <class T>
void append_value(std::string& out, const T& value);

// "[a, b, c]"; ends once the text is long enough.
template <class Range>
void append_range(std::string& out, const Range& range, const char* brackets) {
  out += brackets[0];
  bool first = true;
  for (const auto& element : range) {
    if (!first) out += ", ";
    first = false;
    if (out.size() > kMost) {
      out += "...";
      break;
    }
    append_value(out, element);
  }
  out += brackets[1];
}

template <class... M>
void append_list(std::string& out, const char* brackets, const M&... members) {
  bool first = true;
  out += brackets[0];
  ((out += first ? "" : ", ", first = false, append_value(out, members)), ...);
  out += brackets[1];
}

template <class T>
void append_value(std::string& out, const T& value) {
  constexpr Form f = kForm<T>;
  if constexpr (f == Form::boolean) out += value ? "true" : "false";
  else if constexpr (f == Form::enumeration) append_value(out, static_cast<std::underlying_type_t<T>>(value));
  else if constexpr (std::is_same_v<T, char>) append_character(out, value);
  else if constexpr (std::is_floating_point_v<T>) append(out, static_cast<double>(value));
  else if constexpr (std::is_signed_v<T> && std::is_integral_v<T>) append(out, static_cast<std::int64_t>(value));
  else if constexpr (std::is_integral_v<T>) append(out, static_cast<std::uint64_t>(value));
  else if constexpr (f == Form::text) append_quoted(out, {reinterpret_cast<const char*>(value.data()), value.size()});
  else if constexpr (f == Form::path) append_quoted(out, value.native());
  else if constexpr (f == Form::duration) {
    append_value(out, static_cast<double>(value.count()) * static_cast<double>(T::period::num) /
                          static_cast<double>(T::period::den));
    out += " s";
  } else if constexpr (f == Form::optional) {
    if (value) append_value(out, *value);
    else out += "none";
  } else if constexpr (f == Form::tuple) {
    if constexpr (requires { value.first; }) append_list(out, "()", value.first, value.second);
    else std::apply([&out](const auto&... part) { append_list(out, "()", part...); }, value);
  } else if constexpr (f == Form::aggregate) {
    pickle::detail::with_members<T>(value,
                                    [&out]<class...>(const auto&... member) { append_list(out, "{}", member...); });
  } else {
    append_range(out, value, f == Form::set || f == Form::map ? "{}" : "[]");
  }
}

// An argument: what it is, or of which type. False once nothing more can be read: what has no text is left where it is.
template <class T>
bool append_next(std::string& out, pickle::Reader& in, bool readable) {
  if constexpr (has_text<T>()) {
    if (readable) {
      append_value(out, pickle::load<T>(in));
      return true;
    }
  }
  out += '<';
  out += pickle::type_name<T>();
  out += '>';
  return false;
}

// Reads the callable where that does nothing else; false where what follows it cannot be read.
template <class F>
bool read_callable(pickle::Reader& in, Description& out) {
  constexpr auto form = pickle::detail::callable_form<F>();
  using pickle::detail::CallableForm;
  out.function = pickle::type_name<F>();
  if constexpr (form == CallableForm::function) {
    out.function = function_name(reinterpret_cast<const void*>(pickle::load_callable<F>(in)), pickle::type_name<F>());
    return true;
  } else {
    if constexpr (form == CallableForm::member) static_cast<void>(pickle::load_callable<F>(in));
    return form == CallableForm::member || form == CallableForm::empty;
  }
}

}  // namespace text
}  // namespace mp::pool
