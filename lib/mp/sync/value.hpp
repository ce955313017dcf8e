// Value and RawValue: one plain value in shared memory, as Python's multiprocessing.Value. Where it differs: += and its like are
// atomic for numbers (Python's are not, a known trap), without any lock.
//
//   mp::Value<long> hits(0);        hits += 1;              // from any process
//   mp::Value<Point> p({1, 2});     { std::scoped_lock guard(p); auto q = p.get(); q.x += 1; p.set(q); }
//
// Two handles compare as their values do.
//
// *Thread and process safety*: a handle names one value; any thread of any process, under every start method. get() and
// set() are whole: atomic for what the machine stores at once, else under the value's lock (without a lock: up to you).
// *Memory ordering*: of numbers: sequentially consistent; else the lock's.
// *If a process is killed*: numbers are old or new. A larger value may be half written under its lock, whose next owner is
// told so by OwnerDied.
#pragma once

#include <atomic>
#include <concepts>
#include <cstring>
#include <type_traits>

#include "mp/memory/ref.hpp"
#include "mp/pickle/handle.hpp"
#include "mp/pickle/type_name.hpp"
#include "mp/sync/optional_lock.hpp"

namespace mp {

// What may lie in shared memory as it is.
template <class T>
concept Shareable = std::is_trivially_copyable_v<T> && !std::is_pointer_v<T> && !std::is_reference_v<T>;

namespace sync {
// What a handle's element type is checked by: its name and size. Not pickle::fingerprint, which asks for public members.
template <class T>
inline constexpr std::uint64_t kElementType = pickle::detail::mix(pickle::type_hash<T>, sizeof(T));
}  // namespace sync

template <class T>
concept Number = std::is_arithmetic_v<T> && !std::same_as<T, bool>;

template <class T, class LockPolicy>
class BasicValue {
  static_assert(Shareable<T>,
                "mp: a shared value is plain data without pointers, since it is seen from several processes at "
                "different addresses");
  static constexpr bool kAtomic = [] {
    if constexpr (sizeof(T) <= 8 && (std::is_arithmetic_v<T> || std::is_enum_v<T>))
      return std::atomic_ref<T>::is_always_lock_free;
    else return false;
  }();

 public:
  using value_type = T;

  // A new value. Throws SharedMemoryFull.
  explicit BasicValue(const T& initial = T(), LockPolicy lock = {})
      : ref_(memory::create<Cell>(memory::Kind::value, sync::kElementType<T>, 0, initial)),
        lock_(std::move(lock)) {}

  T get() const {
    if constexpr (kAtomic) {
      return atomic().load(std::memory_order_seq_cst);
    } else {
      auto guard = lock_.guard();
      return cell();
    }
  }
  void set(const T& to) {
    if constexpr (kAtomic) {
      atomic().store(to, std::memory_order_seq_cst);
    } else {
      auto guard = lock_.guard();
      cell() = to;
    }
  }
  T value() const { return get(); }
  operator T() const { return get(); }
  BasicValue& operator=(const T& to) {
    set(to);
    return *this;
  }
  // The value where it lies: for use under the lock.
  T& get_obj() const noexcept { return cell(); }

  // Atomic read-modify-write; fetch_ gives the old value, the operators the new one. Overflow wraps around.
  T fetch_add(T n)
    requires Number<T>
  {
    if constexpr (kAtomic && std::integral<T>) return atomic().fetch_add(n, std::memory_order_seq_cst);
    else return update([n](T old) { return static_cast<T>(old + n); });
  }
  T fetch_sub(T n)
    requires Number<T>
  {
    if constexpr (kAtomic && std::integral<T>) return atomic().fetch_sub(n, std::memory_order_seq_cst);
    else return update([n](T old) { return static_cast<T>(old - n); });
  }
  T fetch_and(T n)
    requires std::integral<T>
  {
    return update([n](T old) { return static_cast<T>(old & n); });
  }
  T fetch_or(T n)
    requires std::integral<T>
  {
    return update([n](T old) { return static_cast<T>(old | n); });
  }
  T fetch_xor(T n)
    requires std::integral<T>
  {
    return update([n](T old) { return static_cast<T>(old ^ n); });
  }
  T exchange(T to) {
    return update([&to](const T&) { return to; });
  }
  // clang-format off
  T operator+=(T n) requires Number<T> { return static_cast<T>(fetch_add(n) + n); }
  T operator-=(T n) requires Number<T> { return static_cast<T>(fetch_sub(n) - n); }
  T operator++() requires Number<T> { return *this += T(1); }
  T operator--() requires Number<T> { return *this -= T(1); }
  T operator++(int) requires Number<T> { return fetch_add(T(1)); }
  T operator--(int) requires Number<T> { return fetch_sub(T(1)); }
  T operator&=(T n) requires std::integral<T> { return static_cast<T>(fetch_and(n) & n); }
  T operator|=(T n) requires std::integral<T> { return static_cast<T>(fetch_or(n) | n); }
  T operator^=(T n) requires std::integral<T> { return static_cast<T>(fetch_xor(n) ^ n); }
  // clang-format on
  // value = f(value), atomically (under the lock where the machine cannot); the old value. f may be called more than once.
  template <class F>
    requires std::is_invocable_r_v<T, F&, T>
  T update(F f) {
    if constexpr (kAtomic) {
      T old = atomic().load(std::memory_order_relaxed);
      while (!atomic().compare_exchange_weak(old, f(old), std::memory_order_seq_cst, std::memory_order_relaxed)) {}
      return old;
    } else {
      auto guard = lock_.guard();
      T old = cell();
      cell() = f(old);
      return old;
    }
  }

  // The lock that belongs to it, for longer sections; throws ValueError where it was made with mp::no_lock. A RawValue has
  // no such functions.
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
  static BasicValue mp_unpickle(pickle::Reader& in) {
    memory::Ref ref = pickle::load_ref<Cell>(in, memory::Kind::value, sync::kElementType<T>);
    return BasicValue(std::move(ref), LockPolicy::mp_unpickle(in));
  }

 private:
  struct Cell {
    explicit Cell(const T& v) : value(v) {}
    T value;
  };
  BasicValue(memory::Ref ref, LockPolicy lock) noexcept : ref_(std::move(ref)), lock_(std::move(lock)) {}
  T& cell() const noexcept { return ref_.template as<Cell>().value; }
  std::atomic_ref<T> atomic() const noexcept { return std::atomic_ref<T>(cell()); }

  memory::Ref ref_;
  mutable LockPolicy lock_;  // const operations take it, too
};

// With a lock: its own RLock, a given Lock or RLock, or (mp::no_lock) none.
template <class T>
using Value = BasicValue<T, sync::OptionalLock>;
template <class T>
using RawValue = BasicValue<T, sync::NoLock>;

}  // namespace mp
