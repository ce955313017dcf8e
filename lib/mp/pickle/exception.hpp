// Exceptions on their way back from another process. The standard ones, this library's and those that were registered arrive as their own
// type (as a class derived from it that also carries RemoteDetails), so that `catch (const BadScene&)` works; others as RemoteError.
// Python pickles the exception object, which fails for many; here nothing that a user's exception does can break its journey.
#pragma once

#include <concepts>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "mp/pickle/crashed.hpp"
#include "mp/pickle/remote.hpp"
#include "mp/pickle/value.hpp"

namespace mp {

namespace pickle {

// What the receiver knows of where an exception came from.
struct Origin {
  std::string worker{};  // name of the process
  pid_t pid = 0;
  std::uint64_t task = 0;
  std::string task_name{};
};

// Writes an exception, with the stack at its throw (by default that of the exception that last left os::call_watched in this thread). Throws
// std::bad_alloc, and nothing else.
void dump_exception(Writer& w, const std::exception_ptr& e, const os::Stack& stack = os::thrown_stack());

// Reads one. `origin` fills in what the message does not say: what came through several processes keeps its first. Throws UnpicklingError.
std::exception_ptr load_exception(Reader& r, const Origin& origin = {});

namespace detail {

using Details = std::shared_ptr<const RemoteDetails>;

// How one type of exception crosses.
struct ExceptionCodec {
  const char* name;    // type_info's
  const char* remote;  // of Remote<E>: what came from elsewhere goes on as what it was
  void (*dump)(Writer& w, const std::exception_ptr& e);
  std::exception_ptr (*load)(Reader& r, Details details);
  const ExceptionCodec* next;
};

// An E from another process.
template <class E>
class Remote : public E, public RemoteCarrier {
 public:
  Remote(E e, Details details) : E(std::move(e)), RemoteCarrier(std::move(details)) {}
};
template <class E>
  requires(std::derived_from<E, std::exception> &&
           !std::derived_from<E, CrashReport>)  // that makes its own text, with the stack
class Remote<E> : public E, public RemoteCarrier {
 public:
  Remote(E e, Details details) : E(std::move(e)), RemoteCarrier(std::move(details)) {}
  // As it was there, whatever the constructors made of it here.
  const char* what() const noexcept override { return RemoteCarrier::details().what.c_str(); }
};

template <class E>
inline constexpr bool kByText = std::is_constructible_v<E, std::string> || std::is_constructible_v<E, const char*>;

template <class E>
E from_text(const std::string& text) {
  if constexpr (std::is_constructible_v<E, std::string>) return E(text);
  else return E(text.c_str());
}

template <class E>
std::exception_ptr make_remote(E e, Details details) {
  if constexpr (std::is_final_v<E>) return std::make_exception_ptr(std::move(e));
  else return std::make_exception_ptr(Remote<E>(std::move(e), std::move(details)));
}

template <class E>
void dump_as(Writer& w, const std::exception_ptr& e) {
  if constexpr (Picklable<E>) {
    try {
      std::rethrow_exception(e);
    } catch (const E& object) {
      pickle::dump(w, object);
    }
  }
}
template <class E>
std::exception_ptr load_as(Reader& r, Details details) {
  if constexpr (Picklable<E>) {
    return make_remote<E>(pickle::load<E>(r), std::move(details));
  } else {
    const std::string text = details->what;
    return make_remote<E>(from_text<E>(text), std::move(details));
  }
}

template <class E>
const char* remote_name() {
  if constexpr (std::is_final_v<E>) return "";
  else return typeid(Remote<E>).name();
}

void add_codec(ExceptionCodec& codec) noexcept;

}  // namespace detail
}  // namespace pickle

// From now on an E thrown in another process arrives here as an E, and one thrown here arrives there, if it is registered there too: call
// it before the first process is started, or at namespace scope: `const bool known = mp::register_exception<BadScene>();`. E is sent by
// the rules for values, or rebuilt from its what() by a constructor from std::string or const char*. Thread-safe; true.
template <class E>
bool register_exception() {
  static_assert(pickle::Picklable<E> || pickle::detail::kByText<E>,
                "mp: this exception can be neither pickled nor made from its text; give it mp_pickle and mp_unpickle, "
                "or a constructor from "
                "std::string");
  if constexpr (pickle::Picklable<E> || pickle::detail::kByText<E>) {
    using namespace pickle::detail;
    static ExceptionCodec codec{typeid(E).name(), remote_name<E>(), dump_as<E>, load_as<E>, nullptr};
    static const bool added = (add_codec(codec), true);
    return added;
  }
  return false;
}

}  // namespace mp
