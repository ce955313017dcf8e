// The arena's pages of 64 KiB, and runs of them. A page's word says all there is to say of it; blocks smaller than a run are arena.cpp's.
// Private to the room.
//
// *Thread and process safety*: all functions, from any thread of any process; a run that was claimed is its claimer's alone.
// *If a process is killed*: each page's word names who had it in hand; recover() (arena.hpp) completes or undoes what the dead were about.
#pragma once

#include <atomic>
#include <cstdint>

#include "mp/memory/arena.hpp"
#include "mp/memory/layout.hpp"

namespace mp::memory::detail {

// A page's word: bits 0-3 kind, 4 whether it is committed, 5-35 owner, 36-63 the argument: a slab's class, a run's length in its first
// page (large, freeing), a tail's first page.
enum class PageKind : std::uint64_t { free, claiming, slab, large, tail, freeing };

struct Word {
  std::uint64_t raw;
  PageKind kind() const noexcept { return static_cast<PageKind>(raw & 15); }
  bool committed() const noexcept { return raw & 16; }
  Tag owner() const noexcept { return static_cast<Tag>(raw >> 5 & 0x7fffffff); }
  std::uint64_t argument() const noexcept { return raw >> 36; }
};
constexpr Word make_word(PageKind kind, bool committed, Tag owner, std::uint64_t argument) noexcept {
  return {static_cast<std::uint64_t>(kind) | (committed ? 16u : 0u) | std::uint64_t{owner} << 5 | argument << 36};
}

inline std::atomic<std::uint64_t>& word_of(std::uint64_t page) noexcept {
  return at<std::atomic<std::uint64_t>>(arena().words)[page];
}
inline Word read(std::uint64_t page) noexcept { return {word_of(page).load(std::memory_order_acquire)}; }
inline void write(std::uint64_t page, Word word) noexcept { word_of(page).store(word.raw, std::memory_order_release); }
inline bool exchange(std::uint64_t page, Word from, Word to) noexcept {
  return word_of(page).compare_exchange_strong(from.raw, to.raw, std::memory_order_acq_rel, std::memory_order_acquire);
}
inline Offset page_offset(std::uint64_t page) noexcept { return first_block + page * kPage; }

inline constexpr std::uint64_t kNone = ~0ull;

// The first of `count` free pages in a row, now claimed by `me`; kNone if there are none. They may or may not be committed.
std::uint64_t claim_run(std::uint64_t count, Tag me) noexcept;
// Commits what is not committed in a claimed run, which reads as zero then if that is asked for; false when memory is full.
bool commit_run(std::uint64_t first, std::uint64_t count, Tag me, Content content) noexcept;
// Gives a claimed run back.
void abandon(std::uint64_t first, std::uint64_t count) noexcept;
// Gives the memory of all free pages that are still committed back to the kernel.
void trim(Tag me) noexcept;
// Whether the memory of a run that is freed may stay committed: as long as no more lies idle than the family may keep (arena.hpp).
bool may_stay(std::uint64_t count) noexcept;
// Completes the freeing of the run at `first` (its word says freeing): by its owner, or after the owner's death.
void finish_freeing(std::uint64_t first, std::uint64_t count, bool keep) noexcept;
// Lets the next claim begin its search at `page`.
void search_from(std::uint64_t page) noexcept;

}  // namespace mp::memory::detail
