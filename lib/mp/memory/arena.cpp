#include "mp/memory/arena.hpp"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "mp/errors.hpp"
#include "mp/memory/layout.hpp"
#include "mp/memory/pages.hpp"
#include "mp/os/shm.hpp"

namespace mp::memory {
namespace detail {
namespace {

// The free bits of a slab's blocks: set = free. Bits beyond the last block are never set.
std::atomic<std::uint64_t>* bitmap_of(std::uint64_t page) noexcept {
  return at<std::atomic<std::uint64_t>>(arena().bitmaps) + page * kBitmapWords;
}

// ---- size classes: 32 64 96 128, then four steps a doubling up to 32 KiB -------------------------------------------

constexpr std::size_t kClasses = 36;
constexpr std::size_t class_size(std::size_t c) noexcept {
  if (c < 4) return (c + 1) * 32;
  std::size_t doubling = (c - 4) / 4, step = (c - 4) % 4;
  return (std::size_t{128} << doubling) + (step + 1) * (std::size_t{32} << doubling);
}
static_assert(class_size(3) == 128 && class_size(4) == 160 && class_size(7) == 256 &&
              class_size(kClasses - 1) == 32768);

constexpr std::size_t class_for(std::size_t size) noexcept {
  if (size <= 128) return size == 0 ? 0 : (size - 1) / 32;
  auto doubling = static_cast<std::size_t>(std::bit_width((size - 1) >> 7)) - 1;
  return 4 + doubling * 4 + ((size - 1) - (std::size_t{128} << doubling)) / (std::size_t{32} << doubling);
}
static_assert(class_for(128) == 3 && class_for(129) == 4 && class_for(256) == 7 && class_for(257) == 8 &&
              class_for(32768) == kClasses - 1);

constexpr std::size_t blocks_in(std::size_t c) noexcept { return kPage / class_size(c); }

// The bits of bitmap word `w` that stand for blocks of class `c`.
constexpr std::uint64_t full_bits(std::size_t c, std::size_t w) noexcept {
  std::size_t blocks = blocks_in(c);
  if (blocks <= w * 64) return 0;
  return blocks - w * 64 >= 64 ? ~0ull : (1ull << (blocks - w * 64)) - 1;
}

bool all_free(std::uint64_t page, std::size_t c) noexcept {
  for (std::size_t w = 0; w < kBitmapWords && full_bits(c, w); ++w)
    if (bitmap_of(page)[w].load(std::memory_order_acquire) != full_bits(c, w)) return false;
  return true;
}

enum class HeapLock { held, free };
void give_back_slabs() noexcept;

// A claimed and committed run; what this process can spare goes back first when memory is short.
std::uint64_t take_pages(std::uint64_t count, std::size_t asked, HeapLock heap, Content content) {
  Tag me = self();
  for (int tries = 0; tries < 2; ++tries) {
    std::uint64_t first = claim_run(count, me);
    if (first != kNone) {
      if (commit_run(first, count, me, content)) return first;
      abandon(first, count);
    }
    if (tries == 0) {
      std::unique_lock guard(heap_mutex, std::defer_lock);
      if (heap == HeapLock::free) guard.lock();
      give_back_slabs();
      trim(me);
    }
  }
  throw full(asked);
}

[[noreturn]] void stop(const char* what, Offset offset) noexcept {
  std::fprintf(stderr, "mp: arena: %s at offset %#llx\n", what, static_cast<unsigned long long>(offset));
  std::abort();
}

struct Place {
  std::uint64_t page;
  Word word;
};

struct Extent {
  Offset begin;
  std::size_t size;  // 0: no block
};

// The page that decides about the block around `offset`; a tail's first page.
bool locate(Offset offset, Place& place) noexcept {
  if (!lies_inside(offset, 1)) return false;  // nor does anything where there is no arena yet
  std::uint64_t page = (offset - first_block) / kPage;
  if (page >= arena().high_page.load(std::memory_order_acquire)) return false;
  place = {page, read(page)};
  if (place.word.kind() == PageKind::tail) {
    std::uint64_t first = place.word.argument();
    if (first >= page) return false;
    place = {first, read(first)};
    if (place.word.kind() != PageKind::large || first + place.word.argument() <= page) return false;
  }
  if (place.word.kind() == PageKind::large) return lies_inside(page_offset(place.page), place.word.argument() * kPage);
  return place.word.kind() == PageKind::slab && place.word.argument() < kClasses;
}

// The block that `offset` lies in, if it is handed out.
Extent extent_of(Offset offset) noexcept {
  Place place;
  if (!locate(offset, place)) return {0, 0};
  const Offset page = page_offset(place.page);
  if (place.word.kind() == PageKind::large) return {page, place.word.argument() * kPage};
  const std::size_t c = place.word.argument(), block = (offset - page) / class_size(c);
  if (block >= blocks_in(c)) return {0, 0};
  if (bitmap_of(place.page)[block / 64].load(std::memory_order_acquire) >> block % 64 & 1) return {0, 0};
  return {page + block * class_size(c), class_size(c)};
}

enum class Freed { yes, no_block, twice };

// `forget`: called right before the block is free.
template <class Forget>
Freed free_block(Offset offset, const Forget& forget) noexcept {
  Place place;
  if (!locate(offset, place)) return Freed::no_block;
  if (place.word.kind() == PageKind::large) {
    std::uint64_t count = place.word.argument();
    const bool keep = may_stay(count);
    const Word freeing = make_word(PageKind::freeing, keep, self(), count);
    forget();
    if (!exchange(place.page, place.word, freeing)) return Freed::twice;
    finish_freeing(place.page, count, keep);
    return Freed::yes;
  }
  std::size_t c = place.word.argument(), block = (offset - page_offset(place.page)) / class_size(c);
  if (block >= blocks_in(c)) return Freed::no_block;
  std::uint64_t bit = 1ull << block % 64;
  std::atomic<std::uint64_t>& bits = bitmap_of(place.page)[block / 64];
  forget();
  return bits.fetch_or(bit, std::memory_order_acq_rel) & bit ? Freed::twice : Freed::yes;
}

// ---- this process's slabs ------------------------------------------------------------------------------------------

// Private hints, guarded by heap_mutex: the truth is in the page words and bitmaps.
struct ClassHeap {
  std::vector<std::uint64_t> pages;
  std::size_t current = 0;  // index into pages
  std::size_t word = 0;     // of its bitmap
};
ClassHeap heaps[kClasses];
Tag heaps_of = kNobody;  // whose they are

// This process's. In a fork child slabs remain the parent's: it forgets them when it first allocates, since most children
// never do and would copy the pages of this table for nothing.
ClassHeap* own_heaps() noexcept {
  const Tag me = my_tag.load(std::memory_order_relaxed);
  if (heaps_of != me) [[unlikely]] {
    for (ClassHeap& heap : heaps) {
      heap.pages.clear();
      heap.current = heap.word = 0;
    }
    heaps_of = me;
  }
  return heaps;
}

std::uint64_t adopt_orphan(std::size_t c, Tag me) noexcept {
  Arena& a = arena();
  if (a.orphans.load(std::memory_order_relaxed) == 0) return kNone;
  std::uint64_t high = a.high_page.load(std::memory_order_acquire);
  for (std::uint64_t page = 0; page < high; ++page) {
    Word word = read(page);
    if (word.kind() != PageKind::slab || word.owner() != kNobody || word.argument() != c) continue;
    if (!exchange(page, word, make_word(PageKind::slab, true, me, c))) continue;
    a.orphans.fetch_sub(1, std::memory_order_relaxed);
    return page;
  }
  return kNone;
}

std::uint64_t new_slab(std::size_t c) {
  std::uint64_t page = take_pages(1, class_size(c), HeapLock::held, Content::any);
  for (std::size_t w = 0; w < kBitmapWords; ++w) bitmap_of(page)[w].store(full_bits(c, w), std::memory_order_relaxed);
  write(page, make_word(PageKind::slab, true, self(), c));
  return page;
}

// Takes a block of class `c` from the current slab from its current bitmap word on; 0 if there is none.
Offset take_block(std::size_t c, ClassHeap& heap, Draft draft) noexcept {
  if (heap.pages.empty()) return 0;
  std::uint64_t page = heap.pages[heap.current];
  for (std::size_t& w = heap.word; w < kBitmapWords && full_bits(c, w); ++w) {
    std::uint64_t bits = bitmap_of(page)[w].load(std::memory_order_acquire);
    if (bits == 0) continue;
    auto bit = static_cast<std::size_t>(std::countr_zero(bits));
    const Offset block = page_offset(page) + (w * 64 + bit) * class_size(c);
    draft.note(block);
    bitmap_of(page)[w].fetch_and(~(1ull << bit), std::memory_order_acq_rel);  // the commit point
    return block;
  }
  return 0;
}

// Moves on to another slab with room: one of ours a few steps on, an orphan, or a new one.
void next_slab(std::size_t c, ClassHeap& heap) {
  constexpr std::size_t kLooks = 4;
  for (std::size_t look = 0; look < std::min(kLooks, heap.pages.size()); ++look) {
    heap.current = (heap.current + 1) % heap.pages.size();
    heap.word = 0;
    std::uint64_t page = heap.pages[heap.current];
    for (std::size_t w = 0; w < kBitmapWords && full_bits(c, w); ++w)
      if (bitmap_of(page)[w].load(std::memory_order_relaxed)) return;
  }
  Tag me = self();
  std::uint64_t page = adopt_orphan(c, me);
  heap.pages.reserve(heap.pages.size() + 1);
  if (page == kNone) page = new_slab(c);
  heap.pages.push_back(page);
  heap.current = heap.pages.size() - 1;
  heap.word = 0;
}

// Gives wholly free slabs beyond the current one back as pages. Caller holds heap_mutex.
void give_back_slabs() noexcept {
  for (std::size_t c = 0; c < kClasses; ++c) {
    ClassHeap& heap = own_heaps()[c];
    for (std::size_t i = 0; i < heap.pages.size();) {
      std::uint64_t page = heap.pages[i];
      if (i == heap.current || !all_free(page, c)) {
        ++i;
        continue;
      }
      write(page, make_word(PageKind::free, true, kNobody, 0));
      search_from(page);
      heap.pages[i] = heap.pages.back();
      if (heap.current == heap.pages.size() - 1) heap.current = i;
      heap.pages.pop_back();
    }
  }
}

}  // namespace
}  // namespace detail

using namespace detail;

bool at_agreed_address() noexcept {
  return detail::base != nullptr && reinterpret_cast<std::uint64_t>(detail::base) == arena().agreed_base;
}

Offset allocate(std::size_t size, std::size_t align, Content content) {
  return allocate(size, align, content, Draft());
}

Offset allocate(std::size_t size, std::size_t align, Content content, Draft draft) {
  start();
  if (size > class_size(kClasses - 1)) {
    std::uint64_t count = size / kPage + (size % kPage != 0);
    if (count > arena().pages) throw full(size);
    std::uint64_t first = take_pages(count, size, HeapLock::free, content);
    for (std::uint64_t page = first + 1; page < first + count; ++page)
      write(page, make_word(PageKind::tail, true, kNobody, first));
    draft.note(page_offset(first));
    write(first, make_word(PageKind::large, true, kNobody, count));  // the commit point
    return page_offset(first);
  }
  std::size_t c = class_for(size);
  while (class_size(c) % align != 0) {
    if (++c == kClasses) return allocate(kPage, align, content, draft);
  }
  Offset block = 0;
  {
    std::lock_guard guard(heap_mutex);
    ClassHeap& heap = own_heaps()[c];
    while ((block = take_block(c, heap, draft)) == 0) next_slab(c, heap);
  }
  if (content == Content::zero) std::memset(at<void>(block), 0, size);
  return block;
}

void deallocate(Offset offset, std::atomic<Offset>* record) noexcept {
  const auto forget = [record] {
    if (record) record->store(0, std::memory_order_release);
  };
  switch (free_block(offset, forget)) {
    case Freed::yes: break;
    case Freed::no_block: stop("freeing what is no block", offset);
    case Freed::twice: stop("freed twice", offset);
  }
}

bool try_deallocate(Offset offset) noexcept {
  return offset != 0 && extent_of(offset).begin == offset && free_block(offset, [] {}) == Freed::yes;
}

bool try_deallocate_recorded(Offset& record) noexcept {
  const Offset offset = record;
  const auto forget = [&record] { std::atomic_ref(record).store(0, std::memory_order_release); };
  const bool freed = offset != 0 && extent_of(offset).begin == offset && free_block(offset, forget) == Freed::yes;
  record = 0;
  return freed;
}

std::size_t block_size(Offset offset) noexcept { return extent_of(offset).size; }

std::size_t room_at(Offset offset) noexcept {
  const Extent block = extent_of(offset);
  return block.size == 0 ? 0 : block.begin + block.size - offset;
}

Usage usage() noexcept { return {arena().committed_bytes.load(std::memory_order_relaxed), arena().capacity}; }

SharedMemoryFull full(std::size_t asked) noexcept {
  const Usage ours = usage();
  // Whichever is the tighter: what is reserved, or the file system, which others fill as well.
  const os::ShmSpace all = os::shared_memory_space(arena_descriptor);
  if (all.allowed != 0 && all.allowed < ours.capacity) return SharedMemoryFull(asked, all.used, all.allowed);
  return SharedMemoryFull(asked, ours.committed, ours.capacity);
}

std::size_t bytes_in_use() noexcept {
  std::size_t total = 0;
  std::uint64_t high = arena().high_page.load(std::memory_order_acquire);
  for (std::uint64_t page = 0; page < high; ++page) {
    Word word = read(page);
    if (word.kind() == PageKind::large) total += word.argument() * kPage;
    if (word.kind() != PageKind::slab) continue;
    std::size_t c = word.argument(), free = 0;
    for (std::size_t w = 0; w < kBitmapWords; ++w)
      free += static_cast<std::size_t>(std::popcount(bitmap_of(page)[w].load(std::memory_order_relaxed)));
    total += (blocks_in(c) - free) * class_size(c);
  }
  return total;
}

void recover(Tag dead) noexcept {
  Arena& a = arena();
  std::uint64_t high = a.high_page.load(std::memory_order_acquire);
  for (std::uint64_t page = 0; page < high; ++page) {
    Word word = read(page);
    if (word.kind() == PageKind::large) {
      if (word.argument() > 1) page += word.argument() - 1;
      continue;
    }
    if (word.owner() != dead) continue;
    switch (word.kind()) {
      case PageKind::claiming: {
        // Tails of a run whose first page was not yet published.
        Word tail = make_word(PageKind::tail, true, kNobody, page);
        for (std::uint64_t next = page + 1;
             next < high && exchange(next, tail, make_word(PageKind::free, true, kNobody, 0));)
          ++next;
        write(page, make_word(PageKind::free, word.committed(), kNobody, 0));
        break;
      }
      case PageKind::freeing: finish_freeing(page, word.argument(), word.committed()); break;
      case PageKind::slab: {
        std::size_t c = word.argument();
        if (all_free(page, c)) {
          write(page, make_word(PageKind::free, true, kNobody, 0));
        } else {
          a.orphans.fetch_add(1, std::memory_order_relaxed);
          write(page, make_word(PageKind::slab, true, kNobody, c));
        }
        break;
      }
      default: break;
    }
  }
}

}  // namespace mp::memory
