// What cannot be sent does not compile, with one sentence that says why and what to do instead.
#pragma once

#include "mp/pickle/shape.hpp"

namespace mp::pickle {

namespace detail {

template <Form form, class Type>
struct Verdict {
  static constexpr Form kWhy = form;
  static constexpr bool kFine = !is_refused(form);
  using Culprit = Type;
};
using Fine = Verdict<Form::own, void>;

template <class First, class... Rest>
constexpr auto first_refusal(First first, Rest... rest) {
  if constexpr (!First::kFine || sizeof...(Rest) == 0) return first;
  else return first_refusal(rest...);
}

// The first part of T, at any depth, that cannot be sent. `Around` are the types that T is part of: a type that contains itself
// (through a vector, a pointer) is looked at once.
template <class T, class... Around>
constexpr auto judge() {
  if constexpr (kAmong<T, Around...>) return Fine();
  else if constexpr (is_refused(kForm<T>)) return Verdict<kForm<T>, T>();
  else {
    return []<class... P>(List<P...>) {
      if constexpr (sizeof...(P) == 0) return Fine();
      else return first_refusal(judge<P, T, Around...>()...);
    }(Parts<T>());
  }
}
template <class T>
using VerdictOn = decltype(judge<T>());

template <Form why, class Culprit>
constexpr void refuse() {
  static_assert(why != Form::pointer,
                "mp: cannot send a raw pointer to another process, where it would point to nothing; send the value, "
                "a std::unique_ptr or std::shared_ptr to it, or an mp::Array or other shared object");
  static_assert(
      why != Form::reference,
      "mp: cannot send a reference to another process; send the value, or an mp::Value or other shared object");
  static_assert(
      why != Form::function,
      "mp: cannot send a function pointer inside a value; pass the function itself as a callable, or bind it with "
      "mp::partial");
  static_assert(
      why != Form::member_pointer,
      "mp: cannot send a pointer to member inside a value; pass it as a callable, or bind it with mp::partial");
  static_assert(
      why != Form::view,
      "mp: cannot send a view (string_view, span, ...) to another process, for it points into memory of this one; "
      "send a std::string, a std::vector or an mp::Array");
  static_assert(why != Form::lock, "mp: cannot send a lock of threads to another process; use mp::Lock");
  static_assert(why != Form::thread, "mp: cannot send a thread to another process; use mp::Process");
  static_assert(
      why != Form::atomic,
      "mp: cannot send a std::atomic to another process, which would get a copy; send its value, or use mp::Value");
  static_assert(why != Form::stream, "mp: cannot send a stream to another process; send its name or its contents");
  static_assert(why != Form::callable,
                "mp: cannot send a function object inside a value; pass it as a callable, or bind it with mp::partial");
  static_assert(why != Form::union_,
                "mp: cannot send a union, which does not say which member it holds; use std::variant");
  static_assert(
      why != Form::many_members,
      "mp: cannot send an aggregate of more than 40 members by itself; give it mp_pickle and mp_unpickle, or group its "
      "members");
  static_assert(
      why != Form::unknown,
      "mp: cannot send this type to another process: it is neither plain data nor an aggregate; give it "
      "`void mp_pickle(mp::pickle::Writer&) const` and `static T mp_unpickle(mp::pickle::Reader&)`, or include "
      "<mp/json.hpp> if it has to_json and from_json");
}

}  // namespace detail

// Whether a T can be sent by value.
template <class T>
concept Picklable = detail::VerdictOn<std::remove_cv_t<T>>::kFine;

// Fails to compile unless T can be sent: one sentence; the compiler's notes name the part of T that is to blame.
template <class T>
constexpr void require_picklable() {
  using Verdict = detail::VerdictOn<std::remove_cv_t<T>>;
  if constexpr (!Verdict::kFine) detail::refuse<Verdict::kWhy, typename Verdict::Culprit>();
}

namespace detail {
template <class A>
struct SentAs {
  using type = std::decay_t<A>;
};
template <std::size_t n>
struct SentAs<const char (&)[n]> {
  using type = std::string;
};
}  // namespace detail

// What an argument of type A (as deduced for A&&) is on the other side: decayed; a string literal is a std::string.
template <class A>
using Sent = typename detail::SentAs<A>::type;

}  // namespace mp::pickle
