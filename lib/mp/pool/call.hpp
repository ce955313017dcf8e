// A task as its caller words it: its limits, and what calling it gives. Both engines build on this.
#pragma once

#include <functional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "mp/os/clock.hpp"
#include "mp/pool/limits.hpp"

namespace mp {

// How one task is run.
struct TaskOptions {
  Timeout timeout =
      {};  // of one attempt, from when a worker takes it; then its worker is ended: TimeoutError (a TaskTimeout)
  unsigned retries = 0;   // further attempts after an exception, a crash or a limit passed (at most 255)
  std::string name = {};  // for messages
  TaskLimits limits = {};
};

namespace pool {

// What a task gives that calls an F with these arguments, each passed as an rvalue.
template <class F, class... Args>
using ResultOf = std::decay_t<std::invoke_result_t<F&, Args...>>;

// One step of a map; `Spread`: the item is a tuple of arguments (starmap).
template <bool Spread, class F, class T>
decltype(auto) call_item(F& f, T&& item) {
  if constexpr (Spread) return std::apply(f, std::move(item));
  else return std::invoke(f, std::move(item));
}
template <bool Spread, class F, class T>
using ItemResult = std::decay_t<decltype(call_item<Spread>(std::declval<F&>(), std::declval<T>()))>;

}  // namespace pool
}  // namespace mp
