// What the library asks of ranges. Their concepts in <ranges> mean the same, but that header costs every program that includes
// ours a tenth of a second to compile.
#pragma once

#include <concepts>
#include <iterator>
#include <span>  // declares std::ranges::enable_view
#include <type_traits>
#include <utility>

namespace mp::pickle {

template <class R>
using RangeIterator = decltype(std::begin(std::declval<R&>()));
template <class R>
using RangeSentinel = decltype(std::end(std::declval<R&>()));
template <class R>
using RangeReference = std::iter_reference_t<RangeIterator<R>>;
template <class R>
using RangeValue = std::iter_value_t<RangeIterator<R>>;

// Can be iterated over, once at least.
template <class R>
concept InputRange = requires(std::remove_reference_t<R>& r) {
  requires std::input_iterator<decltype(std::begin(r))>;
  { std::begin(r) == std::end(r) } -> std::convertible_to<bool>;
};

// Knows how many elements it has.
template <class R>
concept SizedRange = InputRange<R> && requires(std::remove_reference_t<R>& r) {
  { std::size(r) } -> std::convertible_to<std::size_t>;
};

// Does not own its elements.
template <class R>
concept ViewRange = InputRange<R> && std::ranges::enable_view<std::remove_cvref_t<R>>;

}  // namespace mp::pickle
