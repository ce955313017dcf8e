// Shared objects and the references that keep them. An object lies in the arena behind a small header with a count of
// its holders: processes that have at least one Ref to it, and messages in flight. A process's own Refs are counted in
// its private memory, so copying one touches no shared cache line; which objects it holds stands in its bag in the arena, from
// which its references are released when it dies.
//
// *Thread and process safety*: distinct Refs, any threads; one Ref like an int (no concurrent writes). A Ref is 8 bytes
// that mean the same in every process; fork children hold what their parent held.
// *If a process is killed*: its references are released by the sweep (family.hpp), objects that it was making are freed, and
// those that it was destroying are destroyed. Killed right between the two words of taking or dropping a reference: one count too
// many, so at worst a leak, never an early free.
#pragma once

#include <atomic>
#include <cstdint>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "mp/memory/arena.hpp"

namespace mp::memory {

// What an object is: checked when an offset arrives from another process, and how it is destroyed.
enum class Kind : std::uint32_t {
  none,
  bytes,
  lock,
  rlock,
  semaphore,
  condition,
  event,
  barrier,
  value,
  array,
  stream,
  queue,
  pipe,
  record,
  call,
  board,
  job,
  engine,
  last
};

struct Header {
  std::atomic<std::uint32_t> holders;
  Kind kind;
  std::uint64_t type;  // fingerprint of the element type where the kind has one, else 0
};
static_assert(sizeof(Header) == 16);

inline Header& header_of(Offset object) noexcept { return *at<Header>(object - sizeof(Header)); }

// Runs before an object's block is freed, in whichever process dropped the last reference. One per kind. If that process is killed
// in it, it runs again, in another: so it forgets what it frees before it frees it. `align`: of the kind's objects; what says that it is
// one and does not lie like one is freed without. True, so that a constant's initialiser can call it.
using Destroyer = void (*)(void* object) noexcept;
bool set_destroyer(Kind kind, Destroyer destroy, std::size_t align = alignof(Header)) noexcept;

// Has the page of an object's header mapped, so that counting it takes no longer than counting.
inline void touch(Offset object) noexcept {
  static_cast<void>(*static_cast<const volatile std::uint32_t*>(at<void>(object - sizeof(Header))));
}

// One more, one fewer holder that is no process: a message in flight, another object. The last one destroys.
void retain(Offset object) noexcept;
void release(Offset object) noexcept;

// ---- what another process says: see arena.hpp ----

// Whether `object` names a live object of that kind (and type, unless 0); false for any garbage.
bool is_object(Offset object, Kind kind, std::uint64_t type = 0) noexcept;
// Whether it names one of any kind.
bool is_any_object(Offset object) noexcept;

// Such an object as a T, with `extra` bytes behind it; null unless its block has room for that.
template <class T>
T* try_object(Offset object, Kind kind, std::uint64_t type = 0, std::size_t extra = 0) noexcept {
  if (object % alignof(T) != 0 || !is_object(object, kind, type)) return nullptr;
  if (extra > detail::capacity || room_at(object) < sizeof(T) + extra) return nullptr;
  return at<T>(object);
}

// release() for what may be no object: false then, and nothing is released.
bool try_release(Offset object) noexcept;

// Collects the objects whose Refs are copied in this thread while it is installed: what a closure holds.
class Recorder {
 public:
  Recorder() noexcept : outer_(std::exchange(current_, this)) {}
  ~Recorder() { current_ = outer_; }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;
  const std::vector<Offset>& objects() const noexcept { return objects_; }
  static Recorder* current() noexcept { return current_; }
  void note(Offset object) { objects_.push_back(object); }

 private:
  inline static thread_local Recorder* current_ = nullptr;
  Recorder* outer_;
  std::vector<Offset> objects_;
};

class Ref {
 public:
  Ref() noexcept = default;
  // Takes hold of an object that somebody else keeps alive during the call. Throws SharedMemoryFull; UnpicklingError if the offset
  // names no object, which is looked at where this process holds it by no other Ref.
  explicit Ref(Offset object) : object_(object) {
    if (object_) hold(object_);
  }
  Ref(const Ref& other) : Ref(other.object_) {
    if (object_ && Recorder::current()) [[unlikely]]
      Recorder::current()->note(object_);
  }
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, 0)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() {
    if (object_) drop(object_);
  }

  Offset offset() const noexcept { return object_; }
  explicit operator bool() const noexcept { return object_ != 0; }
  // The object. Throws ValueError if there is none: the handle was moved from.
  template <class T>
  T& as() const {
    if (object_ == 0) [[unlikely]]
      refuse_empty();
    return *at<T>(object_);
  }
  friend bool operator==(const Ref&, const Ref&) noexcept = default;

 private:
  friend class Newborn;
  [[noreturn]] static void refuse_empty();
  static void hold(Offset object);
  static void drop(Offset object) noexcept;

  Offset object_ = 0;
};

// Block for an object of `size` bytes with its header filled in and one holder; payload aligned to `align`.
Offset create_raw(Kind kind, std::uint64_t type, std::size_t size, std::size_t align, Content content = Content::any,
                  Draft draft = {});

// An object from before its block is allocated until a Ref holds it: all that time this process's bag names it, so that a kill
// leaks nothing. The calling thread's.
class Newborn {
 public:
  Newborn();  // throws SharedMemoryFull
  Newborn(const Newborn&) = delete;
  Newborn& operator=(const Newborn&) = delete;
  ~Newborn();  // frees what was not handed out
  // As create_raw; once.
  Offset make(Kind kind, std::uint64_t type, std::size_t size, std::size_t align, Content content);
  Ref hand_out();  // what was made, after it was filled in

 private:
  std::atomic<Offset>* entry_;
  Offset object_ = 0;
};

// A block without header from before it is allocated until it is recorded: all that time this process's bag names it. Some 50 ns more than
// allocate(). The calling thread's. *If it is killed* before hand_out() returns, the block is freed; right between that and the store that
// records it, it is leaked.
class NewBlock {
 public:
  explicit NewBlock(std::size_t size, std::size_t align = 16);  // throws SharedMemoryFull
  NewBlock(const NewBlock&) = delete;
  NewBlock& operator=(const NewBlock&) = delete;
  ~NewBlock();  // frees what was not handed out
  Offset offset() const noexcept { return block_; }
  Offset hand_out() noexcept;  // to be recorded at once

 private:
  std::atomic<Offset>* entry_;
  Offset block_ = 0;
};

// A new T(args...) in the arena with `extra` bytes behind it, of that content. T must be usable from any address it is
// mapped at: no pointers, no virtual functions. Throws SharedMemoryFull, or what T's constructor throws.
template <class T, class... Args>
Ref create_filled(Content content, Kind kind, std::uint64_t type, std::size_t extra, Args&&... args) {
  static_assert(std::is_trivially_destructible_v<T>,
                "an object in the arena is destroyed by its kind's destroyer, in any process");
  Newborn child;
  new (at<void>(child.make(kind, type, sizeof(T) + extra, alignof(T), content))) T(std::forward<Args>(args)...);
  return child.hand_out();
}

template <class T, class... Args>
Ref create(Kind kind, std::uint64_t type, std::size_t extra, Args&&... args) {
  return create_filled<T>(Content::any, kind, type, extra, std::forward<Args>(args)...);
}

}  // namespace mp::memory
