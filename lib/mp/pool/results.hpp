// What the maps of executors and pools return: Results, all values at once (Pool.map), and LazyResults, one after another
// as they come (Executor.map, imap, imap_unordered). Python's are a list and a generator.
//
// *Thread safety*: Results may be read from several threads; a LazyResults belongs to one thread at a time.
#pragma once

#include <concepts>
#include <cstddef>
#include <deque>
#include <exception>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "mp/pool/map_source.hpp"

namespace mp {

namespace pool {

// A container that owns its elements and takes an R: what results turn into by themselves.
template <class C, class R>
concept FillableWith = std::is_class_v<C> && std::default_initializable<C> && !std::is_trivially_copyable_v<C> &&
                       requires(C c, R value) { c.insert(c.end(), std::move(value)); };

// A fixed number of values side by side, made one by one: std::vector would pack bools.
template <class T>
class Row {
 public:
  explicit Row(std::size_t capacity) : data_(std::allocator<T>().allocate(capacity)), capacity_(capacity) {}
  ~Row() {
    std::destroy_n(data_, size_);
    std::allocator<T>().deallocate(data_, capacity_);
  }
  Row(const Row&) = delete;
  Row& operator=(const Row&) = delete;
  void add(T&& value) { std::construct_at(data_ + size_, std::move(value)), ++size_; }
  T* data() const noexcept { return data_; }

 private:
  T* data_;
  std::size_t capacity_, size_ = 0;
};

}  // namespace pool

// All results of a map, in input order: a contiguous range. A cheap handle on values that do not change; plain data from
// processes is read where the workers wrote it. Turns by itself into any container of such values:
//
//     std::vector<bool> prime = pool.map(is_prime, numbers);
//
// Of a map of a void function only size() says something.
template <class R>
class Results {
 public:
  using value_type = pool::Stored<R>;
  using const_iterator = const value_type*;
  using iterator = const_iterator;

  Results() noexcept = default;
  // Takes everything out of a source all of whose items are done; throws the first error in input order.
  explicit Results(std::shared_ptr<pool::MapSource<R>> source) : size_(source->size()) {
    if ((data_ = source->array())) {
      keep_ = std::move(source);
      return;
    }
    auto row = std::make_shared<pool::Row<value_type>>(size_);
    for (std::size_t i = 0; i < size_; ++i) row->add(source->take(i));
    data_ = own_ = row->data();
    keep_ = std::move(row);
  }

  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  const value_type* data() const noexcept { return data_; }
  const_iterator begin() const noexcept { return data_; }
  const_iterator end() const noexcept { return data_ + size_; }
  const value_type& operator[](std::size_t i) const noexcept { return data_[i]; }
  const value_type& front() const noexcept { return data_[0]; }
  const value_type& back() const noexcept { return data_[size_ - 1]; }

  template <class C>
    requires(pool::FillableWith<C, value_type> && std::copy_constructible<value_type>)
  operator C() const& {
    return copy<C>();
  }
  // Moves the values where nobody else has them, and those that cannot be copied in any case.
  template <class C>
    requires pool::FillableWith<C, value_type>
  operator C() && {
    if constexpr (std::copy_constructible<value_type>) {
      if (!own_ || keep_.use_count() > 1) return copy<C>();
    }
    C c;
    if constexpr (requires { c.reserve(size_); }) c.reserve(size_);
    for (std::size_t i = 0; i < size_; ++i) c.insert(c.end(), std::move(own_[i]));
    return c;
  }

  friend bool operator==(const Results& a, const Results& b)
    requires std::equality_comparable<value_type>
  {
    if (a.size_ != b.size_) return false;
    for (std::size_t i = 0; i < a.size_; ++i)
      if (!(a[i] == b[i])) return false;
    return true;
  }

 private:
  template <class C>
  C copy() const {
    if constexpr (std::constructible_from<C, const_iterator, const_iterator>) {
      return C(begin(), end());
    } else {
      C c;
      for (const value_type& value : *this) c.insert(c.end(), value);
      return c;
    }
  }

  std::shared_ptr<const void> keep_;
  const value_type* data_ = nullptr;
  value_type* own_ = nullptr;  // data_ where the values are ours to move
  std::size_t size_ = 0;
};

namespace pool {

// Waits for all items, without limit; throws the first error.
template <class R>
Results<R> collect(std::shared_ptr<MapSource<R>> source) {
  source->wait_all(os::Deadline());
  return Results<R>(std::move(source));
}

// The input of a map that is taken bit by bit.
template <class R>
class Feed {
 public:
  virtual ~Feed() = default;
  virtual std::shared_ptr<MapSource<R>>
  next() = 0;  // the next chunk, started; null at the end; throws the input's error
};

// Numbers of what is done, in the order of completion.
class Arrivals {
 public:
  void push(std::size_t id);
  std::optional<std::size_t> pop(const os::Deadline& deadline);  // nothing when the time is over

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<std::size_t> ids_;
};

[[noreturn]] void throw_map_timeout(bool whole);

}  // namespace pool

// Results one after another: a single-pass range.
//
//     for (double y : executor.map(f, xs)) ...
//
// The step to a result waits for it; those that follow each other quickly are waited for together, a tenth of a millisecond or two at
// most, so that whoever takes them does not get in the way of those who make them. `*it` throws the error of its item, and the iteration
// may go on after that with ++it; ++it over an item that was not looked at throws its error. begin() goes on where the last iteration
// stopped.
// Left in the middle (break, an exception), items that have not begun are cancelled; never begun, an Executor.map still
// runs to its end: as in Python, executor.map(f, xs); without a loop is a way to run f for all of xs.
template <class R>
class LazyResults {
 public:
  using value_type = pool::Stored<R>;

  // All items are under way. `deadline`: when it passes, the iteration throws TimeoutError and is over, the rest cancelled.
  explicit LazyResults(std::shared_ptr<pool::MapSource<R>> source, os::Deadline deadline = {}) : deadline_(deadline) {
    add(std::move(source));
  }
  // Keeps `window` chunks of the feed under way; `unordered`: in the order of completion, chunk by chunk.
  LazyResults(std::unique_ptr<pool::Feed<R>> feed, std::size_t window, os::Deadline deadline, bool unordered)
      : feed_(std::move(feed)),
        window_(window),
        deadline_(deadline),
        lazy_(true) {
    if (unordered) arrivals_ = std::make_shared<pool::Arrivals>();
    fill();
  }
  LazyResults(LazyResults&&) noexcept = default;
  LazyResults& operator=(LazyResults&&) noexcept = default;
  ~LazyResults() {
    if (!begun_ && !lazy_)
      for (auto& part : parts_) part.source->on_done([keep = part.source] {});
  }

  // The next result, nothing at the end. Waits at most `timeout`, then throws TimeoutError and may be called again. An item's
  // error is thrown in its place, so is that of the input.
  std::optional<value_type> next(Timeout timeout = {}) {
    begun_ = true;
    if (!row_.empty()) return next_in_row();
    if (at_end()) return std::nullopt;
    if (parts_.empty()) std::rethrow_exception(std::exchange(input_error_, nullptr));
    const os::Deadline deadline = timeout.forever() ? deadline_ : os::Deadline(Timeout(deadline_.next(timeout.left())));
    auto part = arrivals_ ? arrived(deadline) : parts_.begin();
    if (part == parts_.end() || !part->source->wait(part->taken, deadline)) {
      bool whole = deadline_.passed();
      if (whole) close();
      pool::throw_map_timeout(whole);
    }
    auto source = part->source;
    const std::size_t item = part->taken;
    row_ = source->row(item);
    part->taken += row_.empty() ? 1 : row_.size();
    if (part->taken == source->size()) {
      parts_.erase(part);
      current_.reset();
    }
    if (row_.empty()) return source->take(item);
    keep_row_ = std::move(source);
    return next_in_row();
  }

  // Cancels what has not begun and ends the iteration.
  void close() noexcept {
    row_ = {};
    parts_.clear();
    feed_.reset();
    input_error_ = nullptr;
  }

  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = LazyResults::value_type;
    using difference_type = std::ptrdiff_t;
    iterator() = default;
    explicit iterator(LazyResults& owner) noexcept : owner_(&owner) {}
    value_type& operator*() const { return owner_->look(); }
    value_type* operator->() const { return &owner_->look(); }
    iterator& operator++() {
      owner_->step();
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& it, std::default_sentinel_t) { return it.at_end(); }

   private:
    bool at_end() const { return !owner_->looked_at_ && owner_->at_end(); }
    LazyResults* owner_ = nullptr;
  };
  iterator begin() noexcept { return iterator(*this); }
  std::default_sentinel_t end() const noexcept { return {}; }

  // All that is left, in any container of such values.
  template <class C>
    requires pool::FillableWith<C, value_type>
  operator C() && {
    C c;
    while (auto value = next()) c.insert(c.end(), std::move(*value));
    return c;
  }

 private:
  struct Part {
    std::shared_ptr<pool::MapSource<R>> source;
    std::size_t id, taken = 0;
  };

  std::optional<value_type> next_in_row() {
    std::optional<value_type> value;
    if constexpr (std::copy_constructible<value_type>) value.emplace(row_.front());  // rows are of plain data only
    row_ = row_.subspan(1);
    return value;
  }
  bool at_end() {
    if (!row_.empty()) return false;
    fill();
    return parts_.empty() && !input_error_;
  }
  void fill() {
    while (feed_ && parts_.size() < window_) {
      try {
        auto source = feed_->next();
        if (source) add(std::move(source));
        else feed_.reset();
      } catch (...) {
        input_error_ = std::current_exception();
        feed_.reset();
      }
    }
  }
  void add(std::shared_ptr<pool::MapSource<R>> source) {
    if (source->size() == 0) return;
    parts_.push_back({std::move(source), count_});
    if (arrivals_) parts_.back().source->on_done([arrivals = arrivals_, id = count_] { arrivals->push(id); });
    ++count_;
  }
  // The part to take from next; end() when the time is over.
  auto arrived(const os::Deadline& deadline) {
    if (!current_) current_ = arrivals_->pop(deadline);
    auto part = parts_.begin();
    while (part != parts_.end() && part->id != current_) ++part;
    return part;
  }

  value_type& look() {
    if (!std::exchange(looked_at_, true)) {
      try {
        value_ = next();
      } catch (...) {
        error_ = std::current_exception();
      }
    }
    if (error_) std::rethrow_exception(error_);
    return *value_;
  }
  void step() {
    if (!std::exchange(looked_at_, false)) next();
    value_.reset();
    error_ = nullptr;
  }

  std::deque<Part> parts_;
  std::span<const value_type> row_;  // results already known, of a part that keep_row_ keeps
  std::shared_ptr<pool::MapSource<R>> keep_row_;
  std::unique_ptr<pool::Feed<R>> feed_;
  std::size_t window_ = 0, count_ = 0;
  os::Deadline deadline_;
  std::shared_ptr<pool::Arrivals> arrivals_;
  std::optional<std::size_t> current_;  // the part that is being emptied, where they come unordered
  std::exception_ptr input_error_;
  bool begun_ = false, lazy_ = false;

  // Where iterators stand.
  bool looked_at_ = false;
  std::optional<value_type> value_;
  std::exception_ptr error_;
};

}  // namespace mp
