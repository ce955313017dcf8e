// Array and RawArray: plain elements in shared memory, as Python's multiprocessing.Array: a std::span in every process,
// never copied.
//
// *Thread and process safety*: a handle names one array; any thread of any process, under every start method. Elements
// are yours to protect: with the array's lock, with std::atomic_ref, or by each process keeping to its part.
// *If a process is killed*: what it had stored is there; see the lock for what it held.
#pragma once

#include <algorithm>
#include <concepts>
#include <initializer_list>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mp/errors.hpp"
#include "mp/sync/value.hpp"

namespace mp {

template <class T, class LockPolicy>
class BasicArray {
  static_assert(Shareable<T>,
                "mp: a shared array holds plain data without pointers, since it is seen from several processes at "
                "different addresses");

 public:
  using value_type = T;
  using iterator = T*;

  // `size` elements, all bits zero; pages that come straight from the kernel are not touched. Throws SharedMemoryFull.
  explicit BasicArray(std::size_t size, LockPolicy lock = {})
      : BasicArray(memory::Content::zero, size, std::move(lock)) {}
  // A copy of a range's elements (of a string literal, those before its end).
  template <class Range>
    requires requires(const Range& r) {
      std::size(r);
      T(*std::begin(r));
    }
  explicit BasicArray(const Range& from, LockPolicy lock = {})
      : BasicArray(memory::Content::any, std::size(from), std::move(lock)) {
    std::copy(std::begin(from), std::end(from), data());
  }
  explicit BasicArray(const char* text, LockPolicy lock = {})
    requires std::same_as<T, char>
      : BasicArray(std::string_view(text), std::move(lock)) {}
  BasicArray(std::initializer_list<T> from, LockPolicy lock = {})
      : BasicArray(std::span<const T>(from.begin(), from.size()), std::move(lock)) {}

  std::size_t size() const noexcept { return ref_.template as<Head>().size; }
  T* data() const noexcept { return reinterpret_cast<T*>(&ref_.template as<Head>() + 1); }
  std::span<T> span() const noexcept { return {data(), size()}; }
  T* begin() const noexcept { return data(); }
  T* end() const noexcept { return data() + size(); }
  T& operator[](std::size_t i) const noexcept { return data()[i]; }
  T& at(std::size_t i) const {
    if (i >= size()) throw ValueError("index " + std::to_string(i) + " of an array of " + std::to_string(size()));
    return data()[i];
  }
  std::vector<T> copy() const {
    auto guard = lock_.guard();
    return std::vector<T>(begin(), end());
  }
  // Of char arrays: the text up to the first NUL; all bytes.
  std::string_view value() const noexcept
    requires std::same_as<T, char>
  {
    return raw().substr(0, raw().find('\0'));
  }
  // The text, ended by a NUL unless it fills the array. Throws ValueError if it is longer.
  void set_value(std::string_view text)
    requires std::same_as<T, char>
  {
    if (text.size() > size())
      throw ValueError(std::to_string(text.size()) + " characters for an array of " + std::to_string(size()));
    std::copy(text.begin(), text.end(), data());
    if (text.size() < size()) data()[text.size()] = 0;
  }
  std::string_view raw() const noexcept
    requires std::same_as<T, char>
  {
    return {data(), size()};
  }

  // The lock that belongs to it; throws ValueError where it was made with mp::no_lock. A RawArray has no such functions.
  // clang-format off
  auto& get_lock() requires LockPolicy::kLocks { return lock_.get(); }
  bool acquire(bool block = true, Timeout timeout = {}) requires LockPolicy::kLocks { return lock_.acquire(block, timeout); }
  void release() requires LockPolicy::kLocks { lock_.release(); }
  void lock() requires LockPolicy::kLocks { acquire(); }
  void unlock() requires LockPolicy::kLocks { release(); }
  bool try_lock() requires LockPolicy::kLocks { return acquire(false); }
  // clang-format on

  void mp_pickle(pickle::Writer& out) const {
    pickle::dump_ref(out, ref_);
    lock_.mp_pickle(out);
  }
  static BasicArray mp_unpickle(pickle::Reader& in) {
    memory::Ref ref = pickle::load_ref<Head>(in, memory::Kind::array, sync::kElementType<T>);
    if (!memory::array_at<T>(ref.offset() + sizeof(Head), ref.as<Head>().size))
      pickle::malformed("array", "its elements are not all in its block of shared memory");
    return BasicArray(std::move(ref), LockPolicy::mp_unpickle(in));
  }

 private:
  struct alignas(alignof(T) > 64 ? alignof(T) : 64) Head {
    explicit Head(std::size_t n) noexcept : size(n) {}
    const std::uint64_t size;
  };
  BasicArray(memory::Content content, std::size_t size, LockPolicy lock)
      : ref_(memory::create_filled<Head>(content, memory::Kind::array, sync::kElementType<T>, bytes(size), size)),
        lock_(std::move(lock)) {}
  BasicArray(memory::Ref ref, LockPolicy lock) noexcept : ref_(std::move(ref)), lock_(std::move(lock)) {}
  static std::size_t bytes(std::size_t size) {
    if (size > SIZE_MAX / 2 / sizeof(T)) throw SharedMemoryFull(SIZE_MAX, 0, SIZE_MAX / 2);
    return size * sizeof(T);
  }

  memory::Ref ref_;
  mutable LockPolicy lock_;  // const operations take it, too
};

template <class T>
using Array = BasicArray<T, sync::OptionalLock>;
template <class T>
using RawArray = BasicArray<T, sync::NoLock>;

}  // namespace mp
