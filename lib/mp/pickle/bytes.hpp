// The two ends of a message: Writer collects bytes and the shared objects they name, Reader takes them out again and
// believes nothing. Python's counterpart is the byte string between pickle's dumps and loads; here a small message is
// written straight to where it will lie (a task's slot in the arena), with no copy and no allocation.
// Used by every room that sends: channel, process, pool, manager.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "mp/memory/arena.hpp"

namespace mp::memory {
class NewBlock;
}

namespace mp::pickle {

// Values nested deeper than this (through pointers and containers) are refused on both sides, so that neither end
// overflows its stack: Python's recursion limit.
inline constexpr unsigned kMaxDepth = 1000;

namespace detail {
class SharedOut;
class SharedIn;
[[noreturn]] void too_deep_to_write();
[[noreturn]] void too_deep_to_read();
}  // namespace detail

// *Thread safety*: none; one writer, one thread.
// *Ownership*: each object carried has one count (memory::retain) that belongs to the Writer until detach().
// *If the process is killed*: those counts leak, at worst keeping objects until the family ends; a block of the writer's own is freed.
class Writer {
 public:
  // Into 256 bytes of its own, then on the heap.
  Writer() noexcept : begin_(own_), pos_(own_), limit_(own_ + sizeof(own_)) {}
  // Into `first` (a task's slot, say); spills, all of it, when that is full: to the heap; if `first` lies in the arena, a large
  // piece makes it spill to an arena block, which seal() hands over as it is (give_block()).
  explicit Writer(std::span<std::byte> first) noexcept
      : begin_(first.data()),
        pos_(begin_),
        limit_(begin_ + first.size()) {}
  ~Writer() {
    if (spill_ != nullptr || shared_ != nullptr || !carried_.empty()) [[unlikely]]
      dispose();
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // Makes sure that `size` more bytes fit. Throws std::bad_alloc.
  void reserve(std::size_t size) {
    if (room() < size) grow(size);
  }
  // Room for `size` more bytes, which the caller fills at once. Throws std::bad_alloc.
  std::byte* claim(std::size_t size) {
    if (room() < size) [[unlikely]]
      grow(size);
    std::byte* place = pos_;
    pos_ += size;
    return place;
  }
  void write(const void* data, std::size_t size) {
    if (size != 0) std::memcpy(claim(size), data, size);
  }
  template <class T>
    requires std::is_arithmetic_v<T>
  void put(T value) {
    std::memcpy(claim(sizeof(T)), &value, sizeof(T));
  }
  // A count or a length, in 1 to 10 bytes.
  void put_size(std::uint64_t n) {
    while (n >= 0x80) {
      put(static_cast<std::uint8_t>(n | 0x80));
      n >>= 7;
    }
    put(static_cast<std::uint8_t>(n));
  }
  void put_text(std::string_view text) {
    put_size(text.size());
    write(text.data(), text.size());
  }
  // Overwrites what was written at `where`.
  void patch(std::size_t where, const void* data, std::size_t size) noexcept {
    std::memcpy(begin_ + where, data, size);
  }

  std::size_t size() const noexcept { return static_cast<std::size_t>(pos_ - begin_); }
  std::size_t room() const noexcept { return static_cast<std::size_t>(limit_ - pos_); }  // before it grows
  std::span<const std::byte> bytes() const noexcept { return {begin_, size()}; }
  // Whether the bytes still lie where the constructor was told to begin.
  bool in_place() const noexcept { return spill_ == nullptr; }
  // Whether they lie in an arena block of the writer's own. give_block(): the block is the caller's, recorded in `to`; the writer is void.
  bool in_block() const noexcept { return block_ != nullptr; }
  void give_block(memory::Offset& to) noexcept;

  // The bytes written name this shared object: it is kept (one count) until the message has been read.
  void carry(memory::Offset object);
  std::span<const memory::Offset> carried() const noexcept { return carried_; }
  // The message's new owner has taken over the counts.
  void detach() noexcept { carried_.clear(); }
  // What follows is a message of its own: it is read without what was written so far.
  void end_message() noexcept {
    if (shared_ != nullptr) [[unlikely]]
      forget_shared();
  }
  // Begins again, releasing what was carried. Keeps the room it has spilled to.
  void clear() noexcept;

  // One level deeper in a value while it lives; throws PicklingError beyond kMaxDepth.
  class Level {
   public:
    explicit Level(Writer& w) : w_(w) {
      if (w_.depth_ == kMaxDepth) [[unlikely]]
        detail::too_deep_to_write();
      ++w_.depth_;
    }
    ~Level() { --w_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Writer& w_;
  };

  // Objects behind shared_ptr, met before in this message (shared.hpp).
  detail::SharedOut& shared();

 private:
  void grow(std::size_t size);
  void free_spill() noexcept;
  void forget_shared() noexcept;
  void dispose() noexcept;

  std::byte *begin_, *pos_, *limit_;
  std::byte* spill_ = nullptr;  // in the heap, or block_'s
  memory::NewBlock* block_ = nullptr;
  std::vector<memory::Offset> carried_;
  detail::SharedOut* shared_ = nullptr;
  unsigned depth_ = 0;
  std::byte own_[256];
};

// Reads a message that may hold anything. Every read checks that the bytes are there and throws UnpicklingError, naming
// what was to be read. The bytes must not change meanwhile and must outlive the Reader.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) noexcept : pos_(bytes.data()), end_(pos_ + bytes.size()) {}
  ~Reader() {
    if (shared_ != nullptr) [[unlikely]]
      dispose();
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  std::size_t remaining() const noexcept { return static_cast<std::size_t>(end_ - pos_); }
  // The next `size` bytes, in place.
  const std::byte* take(std::size_t size, std::string_view what) {
    if (remaining() < size) [[unlikely]]
      ends_within(size, what);
    const std::byte* place = pos_;
    pos_ += size;
    return place;
  }
  void read(void* to, std::size_t size, std::string_view what) {
    if (size != 0) std::memcpy(to, take(size, what), size);
  }
  template <class T>
    requires std::is_arithmetic_v<T>
  T get(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what), sizeof(T));
    return value;
  }
  // A number that put_size wrote.
  std::uint64_t get_varint(std::string_view what);
  // A count of things that take at least `each` bytes apiece (>= 1): never more than the bytes that are left can hold.
  std::size_t get_size(std::size_t each, std::string_view what);
  // Lies in the message: copy what must outlive it.
  std::string_view get_text(std::string_view what) {
    std::size_t size = get_size(1, what);
    return {reinterpret_cast<const char*>(take(size, what)), size};
  }

  class Level {
   public:
    explicit Level(Reader& r) : r_(r) {
      if (r_.depth_ == kMaxDepth) [[unlikely]]
        detail::too_deep_to_read();
      ++r_.depth_;
    }
    ~Level() { --r_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Reader& r_;
  };

  detail::SharedIn& shared();

 private:
  void dispose() noexcept;
  [[noreturn]] void ends_within(std::size_t size, std::string_view what) const;

  const std::byte *pos_, *end_;
  detail::SharedIn* shared_ = nullptr;
  unsigned depth_ = 0;
};

// What a container of `size` bytes has reserved and will now fill.
void about_to_fill(void* begin, std::size_t size) noexcept;

// "What was read is not a `what`: why". Throws UnpicklingError.
[[noreturn]] void malformed(std::string_view what, std::string_view why);

}  // namespace mp::pickle
