// Callables on their way to another process. Python sends a function by its name and refuses lambdas; here go function and member
// pointers, lambdas with and without captures, function objects and mp::partial. The code itself is never sent: whoever uses this (pool,
// process) sends the CodeRef of a trampoline that it instantiates for the callable's type, and this file moves the state.
//
//   no state (captureless lambda, std::plus<>)        nothing
//   function pointer, pointer to member               module and offset
//   picklable by the rules of value.hpp, mp::partial  its members
//   any other copyable object (lambda with captures)  its bytes, checked (closure.hpp)
#pragma once

#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "mp/pickle/closure.hpp"
#include "mp/pickle/code.hpp"
#include "mp/pickle/value.hpp"

namespace mp {

// A callable with its first arguments: f(bound..., rest...). functools.partial; every bound argument is sent by the rules for
// values, which a lambda's captures are not: mp::partial(f, std::string(1000, 'x')) works where a lambda that captured
// the string is refused.
template <class F, class... Bound>
class Partial {
 public:
  template <class G, class... B>
    requires(sizeof...(B) == sizeof...(Bound))
  explicit Partial(std::in_place_t, G&& f, B&&... bound) : f_(std::forward<G>(f)),
                                                           bound_(std::forward<B>(bound)...) {}

  template <class... Rest>
    requires std::is_invocable_v<F&, Bound&..., Rest...>
  decltype(auto) operator()(Rest&&... rest) {
    return call(*this, std::forward<Rest>(rest)...);
  }
  template <class... Rest>
    requires std::is_invocable_v<const F&, const Bound&..., Rest...>
  decltype(auto) operator()(Rest&&... rest) const {
    return call(*this, std::forward<Rest>(rest)...);
  }

  void mp_pickle(pickle::Writer& w) const;
  static Partial mp_unpickle(pickle::Reader& r);

 private:
  template <class Self, class... Rest>
  static decltype(auto) call(Self& self, Rest&&... rest) {
    return std::apply(
        [&](auto&... bound) -> decltype(auto) { return std::invoke(self.f_, bound..., std::forward<Rest>(rest)...); },
        self.bound_);
  }
  F f_;
  std::tuple<Bound...> bound_;
};

template <class F, class... Bound>
auto partial(F&& f, Bound&&... bound) {
  return Partial<std::decay_t<F>, pickle::Sent<Bound>...>(std::in_place, std::forward<F>(f),
                                                          std::forward<Bound>(bound)...);
}

}  // namespace mp

namespace mp::pickle {

namespace detail {

enum class CallableForm { none, empty, function, member, value, closure };

template <class F>
constexpr CallableForm callable_form() {
  if constexpr (std::is_pointer_v<F> && std::is_function_v<std::remove_pointer_t<F>>) return CallableForm::function;
  else if constexpr (std::is_member_pointer_v<F>) return CallableForm::member;
  else if constexpr (!std::is_class_v<F>) return CallableForm::none;
  else if constexpr (Picklable<F>) return CallableForm::value;
  else if constexpr (std::is_empty_v<F> && std::is_trivially_copyable_v<F>) return CallableForm::empty;
  else if constexpr (std::is_copy_constructible_v<F>) return CallableForm::closure;
  else return CallableForm::none;
}

}  // namespace detail

// Whether dump_callable takes an F (decayed): everything but an object with state that can be neither pickled nor copied.
template <class F>
concept SendableCallable = detail::callable_form<F>() != detail::CallableForm::none;

// What an argument becomes on the way: decayed; a string literal becomes a std::string.
//   using Args = std::tuple<pickle::Sent<A>...>;   (value.hpp)

// Whether F can be called in another process with these arguments, each of them Sent<> and passed as an rvalue.
template <class F, class... Args>
concept SendableCall = SendableCallable<F> && (Picklable<Args> && ...) && std::is_invocable_v<F&, Args...>;

// Refuses at compile time, with one sentence, what SendableCall is false for. For the first line of submit(), map(), Process().
template <class F, class... Args>
constexpr void require_sendable_call() {
  if constexpr (!SendableCallable<F>) {
    static_assert(!std::is_class_v<F>,
                  "mp: this callable can be neither copied nor pickled, so it cannot be sent to another process; "
                  "capture by copy, or use "
                  "mp::partial with picklable arguments");
    static_assert(std::is_class_v<F>, "mp: this is no callable that can be sent to another process");
  } else if constexpr ((Picklable<Args> && ...)) {
    constexpr bool callable = std::is_invocable_v<F&, Args...>;
    constexpr bool by_lvalue = std::is_invocable_v<F&, Args&...>;
    static_assert(
        callable || !by_lvalue,
        "mp: the function takes a parameter by non-const reference, but what it would change is a copy in another "
        "process; take "
        "it by value or const&, and return the result, or pass an mp::Value, mp::Array or another shared object");
    static_assert(callable || by_lvalue, "mp: the function cannot be called with these arguments");
  } else {
    (require_picklable<Args>(), ...);
  }
}

// Writes the state of `f`. Throws PicklingError (a captured pointer, code in no module), or what F's copy constructor throws.
template <class F>
void dump_callable(Writer& w, const F& f) {
  constexpr auto form = detail::callable_form<F>();
  if constexpr (form == detail::CallableForm::function) {
    detail::dump_code(w, reinterpret_cast<const void*>(f));
  } else if constexpr (form == detail::CallableForm::member) {
    detail::dump_member(w, &f, sizeof f, std::is_member_function_pointer_v<F>);
  } else if constexpr (form == detail::CallableForm::value) {
    dump(w, f);
  } else if constexpr (form == detail::CallableForm::closure) {
    detail::dump_closure(w, &f, detail::closure_type<F>);
  } else {
    static_assert(form == detail::CallableForm::empty);
  }
}

// Reads it. F need not be default constructible. Throws UnpicklingError (other build, module not loaded, malformed).
template <class F>
F load_callable(Reader& r) {
  constexpr auto form = detail::callable_form<F>();
  if constexpr (form == detail::CallableForm::function) {
    return reinterpret_cast<F>(const_cast<void*>(detail::load_code(r)));
  } else if constexpr (form == detail::CallableForm::member) {
    F f;
    detail::load_member(r, &f, sizeof f, std::is_member_function_pointer_v<F>);
    return f;
  } else if constexpr (form == detail::CallableForm::value) {
    return load<F>(r);
  } else if constexpr (form == detail::CallableForm::closure) {
    detail::ClosureIn<F> in(r);
    return in.get();
  } else {
    static_assert(form == detail::CallableForm::empty);
    // An object without state is any byte; copying it is how one comes by a lambda.
    alignas(F) std::byte nothing[sizeof(F)]{};
    return *std::launder(reinterpret_cast<const F*>(nothing));
  }
}

// The same for a callable that is about to be called: refuses a null pointer, too.
template <class F>
F load_called(Reader& r) {
  F f = load_callable<F>(r);
  if constexpr (std::is_pointer_v<F> || std::is_member_pointer_v<F>) {
    if (f == nullptr) malformed("callable", "it is a null pointer");
  }
  return f;
}

}  // namespace mp::pickle

template <class F, class... Bound>
void mp::Partial<F, Bound...>::mp_pickle(pickle::Writer& w) const {
  pickle::dump_callable(w, f_);
  pickle::dump(w, bound_);
}

template <class F, class... Bound>
mp::Partial<F, Bound...> mp::Partial<F, Bound...>::mp_unpickle(pickle::Reader& r) {
  F f = pickle::load_callable<F>(r);
  return std::apply([&](Bound&&... bound) { return Partial(std::in_place, std::move(f), std::move(bound)...); },
                    pickle::load<std::tuple<Bound...>>(r));
}
