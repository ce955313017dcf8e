// The family's one shared-memory object: everything shared lies in it and is named by its offset, so that a name means
// the same in every process of the family wherever the arena is mapped there.
//
//   | header | members (family.hpp) | page 0 | page 1 | ... | page words | page bitmaps |
//
// The first pages lie near the members: a new process, which looks at its entry there and at its record in one of the first pages, has
// one page table of the arena's to make.
//
// Pages are 64 KiB. A page is free, a slab of equal blocks, or part of a large run. Blocks up to 32 KiB come from slabs,
// larger ones are runs of whole pages.
//
// Invariants (the layout is an ABI between the processes of a family):
//  1. Every change of state is one atomic store to one word: a page's word, or one word of a slab's bitmap.
//  2. A page is committed (fallocate) before anything in it is handed out: touching it cannot fail (no SIGBUS).
//  3. Only the owner of a slab clears bits (allocates); any process sets bits (frees).
//  4. A page being claimed or freed carries the tag of who does it; if that process dies, recover() undoes or completes it.
// Page word: bits 0-3 kind, bit 4 committed (freeing: shall stay so), bits 5-35 owner's tag, bits 36-63 argument
//  (slab: size class; large, freeing: pages in the run; tail: index of the run's first page).
//
// What goes back to the kernel: pages that are freed stay committed, and mapped in every process that has touched them, for
// the next taker: fresh ones cost 1.5 us per 4 KiB, in every process again. A run of 1 MiB and more goes back when with it more
// than 256 MiB would lie idle, or a 64th of the machine's memory if that is less. All that is idle goes back when memory is full.
//
// *Thread and process safety*: every function may be called from any thread of any process of the family.
// *If a process is killed*: memory it was about to hand out or to free is at worst leaked until recover(), never torn.
// Design and figures: mimalloc's slabs, without its lists: a bitmap needs no repair.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "mp/errors.hpp"

namespace mp::memory {

// Distance from the arena's start in bytes. 0 names nothing.
using Offset = std::uint64_t;

// A process of the family: bits 0-11 its index in the table of members, bits 12-30 the generation of that entry.
// Never 0, and bit 31 is free for the flag of a lock word.
using Tag = std::uint32_t;
inline constexpr Tag kNobody = 0;

namespace detail {
inline std::byte* base = nullptr;   // where this process has mapped the arena; set once by start()
inline std::uint64_t capacity = 0;  // bytes reserved there
// Blocks lie between these two; before and behind them, what only this room may touch.
inline std::uint64_t first_block = 0, end_of_blocks = 0;
}  // namespace detail

// Makes this process's family (or joins the one it was born into: os/launch.hpp) if that has not happened yet. Every function that
// creates a shared object calls it, also before main; those that take an Offset need not. Throws OSError; Error where it
// was executed with the arguments of a child, but is none.
void start();

inline bool contains(const void* p) noexcept {
  return static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - detail::base) < detail::capacity;
}
template <class T>
T* at(Offset offset) noexcept {
  return reinterpret_cast<T*>(detail::base + offset);
}
inline Offset offset_of(const void* p) noexcept {
  return static_cast<Offset>(static_cast<const std::byte*>(p) - detail::base);
}

// Whether the arena lies at the address that the whole family has agreed on, so that raw pointers into it mean the same
// everywhere. True but where a spawned process found that address taken, and where there is no arena yet.
bool at_agreed_address() noexcept;

enum class Content : std::uint8_t {
  any,
  zero,  // costs nothing for pages that come straight from the kernel
};

// A block of at least `size` bytes, aligned to `align` (a power of two, at most 65536). Blocks up to 32 KiB
// cost some 20 ns; larger ones a system call. Throws SharedMemoryFull. The block belongs to nobody: a process killed
// before it has recorded the offset anywhere leaks it.
Offset allocate(std::size_t size, std::size_t align = 16, Content content = Content::any);

// A word of the caller's in which the block is written down, as `mark` added to its offset, before it is allocated: whoever finds that
// word after the caller's death, and before recover(), knows that the block is the dead one's or none (block_size() is 0).
struct Draft {
  std::atomic<Offset>* word = nullptr;
  Offset mark = 0;
  void note(Offset block) const noexcept {
    if (word) word->store(block + mark, std::memory_order_release);
  }
};
Offset allocate(std::size_t size, std::size_t align, Content content, Draft draft);

// Frees the block that `offset` lies in (anywhere in it), from any process. Stops the program loudly on an offset that names no block.
// `record`: a word that names the block; it is cleared right before the block is free.
void deallocate(Offset offset, std::atomic<Offset>* record = nullptr) noexcept;

// Maps `size` bytes from `p` on in this process, if they are not, before they are written: the first read of a page brings its
// neighbours with it, 64 KiB for one page fault, where each 4 KiB written first costs a fault of its own.
inline void map_ahead(const void* p, std::size_t size) noexcept {
  constexpr std::uintptr_t kTogether = 64 * 1024;
  const auto begin = reinterpret_cast<std::uintptr_t>(p);
  for (std::uintptr_t at = begin; at < begin + size; at = (at | (kTogether - 1)) + 1)
    static_cast<void>(*reinterpret_cast<const volatile std::byte*>(at));
}

// ---- what another process says ----
// An offset, a size or a count that another process wrote may be anything: it is passed through one of these before it is used. Read it
// once, into a variable of your own, and use that.

// Whether `size` bytes from `offset` on lie where blocks can be: two comparisons, no look at memory. Keeps a wrong offset out of the
// arena's own tables and from leading out of it, no more.
inline bool lies_inside(Offset offset, std::uint64_t size) noexcept {
  return offset >= detail::first_block && size <= detail::end_of_blocks && offset <= detail::end_of_blocks - size;
}

// Size of the block that `offset` lies in, 0 if it lies in none.
std::size_t block_size(Offset offset) noexcept;

// From `offset` to the end of the block that it lies in, 0 if it lies in none.
std::size_t room_at(Offset offset) noexcept;

// The `size` bytes from `offset` on if they lie in one block that is handed out, and so can be touched; else null.
inline std::byte* block_at(Offset offset, std::size_t size) noexcept {
  const std::size_t room = room_at(offset);
  return room != 0 && size <= room ? at<std::byte>(offset) : nullptr;
}
// The same for `count` things of a kind.
template <class T>
T* array_at(Offset offset, std::uint64_t count) noexcept {
  if (offset % alignof(T) != 0 || count > detail::capacity / sizeof(T)) return nullptr;
  return reinterpret_cast<T*>(block_at(offset, count * sizeof(T)));
}

// deallocate() for an offset that may name no block, or not the beginning of one: false then, and nothing is freed.
bool try_deallocate(Offset offset) noexcept;
// The same for the block that `record` names, which is 0 afterwards; it is cleared right before the block is free, as deallocate() does.
bool try_deallocate_recorded(Offset& record) noexcept;

struct Usage {
  std::size_t committed;  // bytes taken from the kernel
  std::size_t capacity;   // bytes reserved, the most that can ever be committed
};
Usage usage() noexcept;

// To be thrown where `asked` bytes could not be had: with what is used and allowed, of the arena or of the file system that it lies
// in, whichever is smaller.
SharedMemoryFull full(std::size_t asked) noexcept;

// Bytes in blocks that are handed out, by walking all pages: for tests and reports.
std::size_t bytes_in_use() noexcept;

// After the death of `dead`: undoes its half-made claims, completes its half-made frees, gives its slabs up for adoption.
// One caller at a time per `dead` (family.hpp sees to it).
void recover(Tag dead) noexcept;

}  // namespace mp::memory
