// The typed skin of a process pool's tasks: how a callable and its arguments are written into a slot, run in the worker,
// and how the result is read back. Everything below it is bytes.
#pragma once

#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "mp/pickle/callable.hpp"
#include "mp/pickle/pickle.hpp"
#include "mp/pool/call.hpp"
#include "mp/pool/describe.hpp"
#include "mp/pool/engine.hpp"
#include "mp/pool/future.hpp"

namespace mp::pool {

// What a worker runs for submit(f, args...): everything by value, as it came.
template <class F, class... Args>
void run_task(pickle::Reader& in, pickle::Writer& out) {
  F f = pickle::load_called<F>(in);
  std::tuple<Args...> args{pickle::load<Args>(in)...};
  using R = std::invoke_result_t<F&, Args...>;
  if constexpr (std::is_void_v<R>) std::apply([&](Args&... a) { std::invoke(f, std::move(a)...); }, args);
  else
    pickle::dump(out, static_cast<const std::decay_t<R>&>(
                          std::apply([&](Args&... a) -> R { return std::invoke(f, std::move(a)...); }, args)));
}

// The same bytes as people read them.
template <class F, class... Args>
void describe_task(pickle::Reader& in, std::uint64_t, Description& out) {
  bool readable = text::read_callable<F>(in, out);
  std::string& list = out.arguments;
  list += '(';
  bool first = true;
  ((list += first ? "" : ", ", first = false, readable = text::append_next<Args>(list, in, readable)), ...);
  list += ')';
  // Left-overs: these are not, or no longer, the arguments.
  if (readable && in.remaining() != 0) list.clear();
}

template <class F, class... Args>
auto submit(ProcessEngine& engine, const TaskOptions& options, const F& f, const Args&... args) {
  using R = ResultOf<F, Args...>;
  static const pickle::CodeRef code = describable(pickle::code_ref(&run_task<F, Args...>), &describe_task<F, Args...>);
  return Future<R>(engine.post(code, options, false, [&](pickle::Writer& out) {
    pickle::dump_callable(out, f);
    (pickle::dump(out, args), ...);
  }));
}

}  // namespace mp::pool
