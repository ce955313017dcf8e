// Between the faces (executor.hpp, pool.hpp) and the two engines: callables, arguments and inputs as users write them
// become what the engines take. What cannot be sent to a process is refused here, at compile time, in one sentence.
#pragma once

#include <iterator>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "mp/pickle/range.hpp"
#include "mp/pool/process_map.hpp"
#include "mp/pool/results.hpp"
#include "mp/pool/task.hpp"
#include "mp/pool/thread_map.hpp"

namespace mp::pool {

template <class Engine>
inline constexpr bool kSends = std::is_same_v<Engine, ProcessEngine>;

// ---- one task -------------------------------------------------------------------------------------------------------

template <class Engine, class F, class... Args>
auto start_task(Engine& engine, const TaskOptions& options, F&& f, Args&&... args) {
  if constexpr (kSends<Engine>) {
    pickle::require_sendable_call<std::decay_t<F>, pickle::Sent<Args>...>();
    const std::decay_t<F>& callable = f;
    return submit(engine, options, callable, static_cast<const pickle::Sent<Args>&>(args)...);
  } else {
    return submit(engine, options, std::forward<F>(f), std::forward<Args>(args)...);
  }
}

// ---- a map ----------------------------------------------------------------------------------------------------------

// A range whose elements are proxies (std::vector<bool>), seen as one of values.
template <class Range>
class ByValue {
 public:
  explicit ByValue(Range& range) noexcept : range_(range) {}
  struct iterator {
    using value_type = pickle::RangeValue<Range>;
    using difference_type = std::ptrdiff_t;
    pickle::RangeIterator<Range> at;
    value_type operator*() const { return *at; }
    iterator& operator++() {
      ++at;
      return *this;
    }
    void operator++(int) { ++at; }
    friend bool operator==(const iterator& a, const pickle::RangeSentinel<Range>& b) { return a.at == b; }
  };
  iterator begin() const { return {std::begin(range_)}; }
  auto end() const { return std::end(range_); }
  std::size_t size() const
    requires pickle::SizedRange<Range>
  {
    return static_cast<std::size_t>(std::size(range_));
  }

 private:
  Range& range_;
};

template <bool Spread, class F, class T>
constexpr void require_sendable_item() {
  if constexpr (Spread) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      pickle::require_sendable_call<F, std::tuple_element_t<I, T>...>();
    }(std::make_index_sequence<std::tuple_size_v<T>>());
  } else {
    pickle::require_sendable_call<F, T>();
  }
}

template <bool Spread, class Engine, class F, class Range>
auto start_map(Engine& engine, const MapOptions& options, F&& f, Range&& items) {
  using Item = pickle::RangeValue<Range>;
  using Reference = pickle::RangeReference<Range>;
  if constexpr (!std::is_same_v<std::decay_t<Reference>, Item>) {
    ByValue<std::remove_reference_t<Range>> values(items);
    return start_map<Spread>(engine, options, std::forward<F>(f), values);
  } else if constexpr (!kSends<Engine>) {
    return map_items<Spread>(engine, options, std::forward<F>(f), std::forward<Range>(items));
  } else if constexpr (!pickle::SizedRange<Range>) {
    std::vector<Item> all;
    for (auto&& item : items) all.push_back(std::forward<decltype(item)>(item));
    return start_map<Spread>(engine, options, std::forward<F>(f), all);
  } else {
    require_sendable_item<Spread, std::decay_t<F>, pickle::Sent<Item>>();
    const std::decay_t<F>& callable = f;
    return map_items<Spread>(engine, options, callable, items);
  }
}

// ---- inputs taken bit by bit ----------------------------------------------------------------------------------------

// Item after item of a range: its own where it was given as an rvalue, else a reference to the caller's. No item is asked
// for before it is needed.
template <class Range>
class Pull {
 public:
  using value_type = pickle::RangeValue<Range>;
  explicit Pull(Range&& range) : range_(std::forward<Range>(range)) {}
  std::optional<value_type> next() {
    if (at_) ++*at_;
    else at_.emplace(std::begin(range_));
    if (*at_ == std::end(range_)) return std::nullopt;
    if constexpr (std::is_reference_v<Range> || pickle::ViewRange<Range>) return value_type(**at_);
    else return value_type(std::move(**at_));
  }

 private:
  Range range_;
  std::optional<pickle::RangeIterator<Range>> at_;
};

template <class Range, class...>
struct FirstPull {
  using type = Pull<Range>;
};

// Tuples of one item from each, until the shortest ends.
template <class... Ranges>
class PullTuples {
 public:
  using value_type = std::tuple<pickle::RangeValue<Ranges>...>;
  explicit PullTuples(Ranges&&... ranges) : pulls_(Pull<Ranges>(std::forward<Ranges>(ranges))...) {}
  std::optional<value_type> next() {
    return std::apply(
        [](auto&... pull) -> std::optional<value_type> {
          std::tuple<std::optional<pickle::RangeValue<Ranges>>...> row;
          bool whole = std::apply([&](auto&... cell) { return ((cell = pull.next()).has_value() && ...); }, row);
          if (!whole) return std::nullopt;
          return std::apply([](auto&... cell) { return value_type(std::move(*cell)...); }, row);
        },
        pulls_);
  }

 private:
  std::tuple<Pull<Ranges>...> pulls_;
};

template <class Input>
std::vector<typename Input::value_type> pull_all(Input input) {
  std::vector<typename Input::value_type> all;
  while (auto item = input.next()) all.push_back(std::move(*item));
  return all;
}

template <class R>
std::type_identity<R> result_type(const std::shared_ptr<MapSource<R>>&);

template <bool Spread, class Engine, class F, class Input>
using FeedResult = typename decltype(result_type(
    start_map<Spread>(std::declval<Engine&>(), std::declval<const MapOptions&>(), std::declval<F&>(),
                      std::declval<std::vector<typename Input::value_type>>())))::type;

// Starts chunk after chunk of an input on an engine.
template <bool Spread, class Engine, class F, class Input, class R>
class EngineFeed final : public Feed<R> {
 public:
  template <class G>
  EngineFeed(std::shared_ptr<Engine> engine, const MapOptions& options, G&& f, Input&& input)
      : engine_(std::move(engine)),
        options_(options),
        f_(std::forward<G>(f)),
        input_(std::move(input)) {}

  std::shared_ptr<MapSource<R>> next() override {
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    std::vector<typename Input::value_type> chunk;
    try {
      while (!ended_ && chunk.size() < options_.chunksize) {
        auto item = input_.next();
        if (item) chunk.push_back(std::move(*item));
        else ended_ = true;
      }
    } catch (...) {
      ended_ = true;
      if (chunk.empty()) throw;
      error_ = std::current_exception();  // in its place, after the items before it
    }
    if (chunk.empty()) return nullptr;
    return start_map<Spread>(*engine_, options_, f_, std::move(chunk));
  }

 private:
  std::shared_ptr<Engine> engine_;
  MapOptions options_;
  F f_;
  Input input_;
  std::exception_ptr error_;
  bool ended_ = false;
};

// chunksize 0 is 1 here; without buffersize four chunks for each worker are under way.
template <bool Spread, class Engine, class F, class Input>
auto start_feed(const std::shared_ptr<Engine>& engine, MapOptions options, F&& f, Input&& input, bool unordered) {
  using R = FeedResult<Spread, Engine, std::decay_t<F>, Input>;
  os::Deadline deadline(options.deadline);
  if (options.chunksize == 0) options.chunksize = 1;
  std::size_t window = options.buffersize ? options.buffersize / options.chunksize : 4 * std::size_t{engine->workers()};
  return LazyResults<R>(std::make_unique<EngineFeed<Spread, Engine, std::decay_t<F>, Input, R>>(
                            engine, options, std::forward<F>(f), std::move(input)),
                        window ? window : 1, deadline, unordered);
}

}  // namespace mp::pool
