// Objects that count their own holders: a handle is one pointer, and what happens when nobody holds the object any more
// is the object's own affair (the state of a task goes back to its pool's table, to serve again).
//
// *Thread safety*: the count's; distinct handles from any threads, one handle like an int.
#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>
#include <utility>

namespace mp::pool {

class Counted {
 public:
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  void hold() noexcept { holders_.fetch_add(1, std::memory_order_relaxed); }
  void let_go() noexcept {
    // The only holder needs no atomic step: there is nobody who could take hold meanwhile.
    if (holders_.load(std::memory_order_acquire) == 1 || holders_.fetch_sub(1, std::memory_order_acq_rel) == 1)
      unheld();
  }

 protected:
  Counted() noexcept = default;  // with one holder, its maker
  virtual ~Counted() = default;
  virtual void unheld() noexcept { delete this; }
  void hold_first() noexcept { holders_.store(1, std::memory_order_relaxed); }  // of an object that serves again

 private:
  std::atomic<std::uint32_t> holders_{1};
};

// A handle that keeps a T (a Counted) alive.
template <class T>
class Held {
 public:
  using element_type = T;
  Held() noexcept = default;
  explicit Held(T* object) noexcept : object_(object) {}  // takes over one hold
  template <class... Args>
  static Held make(Args&&... args) {
    return Held(new T(std::forward<Args>(args)...));
  }
  Held(const Held& other) noexcept : object_(other.object_) {
    if (object_) object_->hold();
  }
  Held(Held&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  template <std::derived_from<T> U>
    requires(!std::same_as<T, U>)
  Held(Held<U> other) noexcept : object_(other.release()) {}
  Held& operator=(Held other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Held() {
    if (object_) object_->let_go();
  }

  T* get() const noexcept { return object_; }
  T& operator*() const noexcept { return *object_; }
  T* operator->() const noexcept { return object_; }
  explicit operator bool() const noexcept { return object_ != nullptr; }
  T* release() noexcept { return std::exchange(object_, nullptr); }  // its hold is the caller's now
  friend bool operator==(const Held&, const Held&) noexcept = default;

 private:
  T* object_ = nullptr;
};

}  // namespace mp::pool
