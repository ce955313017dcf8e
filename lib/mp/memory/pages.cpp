#include "mp/memory/pages.hpp"

#include <algorithm>
#include <cstring>

#include "mp/os/shm.hpp"

namespace mp::memory::detail {
namespace {

void raise_to(std::atomic<std::uint64_t>& mark, std::uint64_t value) noexcept {
  std::uint64_t seen = mark.load(std::memory_order_relaxed);
  while (seen < value && !mark.compare_exchange_weak(seen, value, std::memory_order_acq_rel)) {}
}

// Commits the tables' entries for pages below `pages`. False when memory is full.
bool describe_pages(std::uint64_t pages) noexcept {
  Arena& a = arena();
  std::uint64_t done = a.described_pages.load(std::memory_order_acquire);
  if (pages <= done) return true;
  pages = std::min<std::uint64_t>((pages + 1023) / 1024 * 1024, a.pages);  // 8 KiB of words, 256 KiB of bitmaps
  auto commit_part = [&](Offset table, std::size_t entry) {
    return os::commit(arena_descriptor, table + done * entry, (pages - done) * entry) == 0;
  };
  if (!commit_part(a.words, sizeof(std::uint64_t)) || !commit_part(a.bitmaps, kBitmapWords * 8)) return false;
  a.committed_bytes.fetch_add((pages - done) * (8 + kBitmapWords * 8), std::memory_order_relaxed);
  raise_to(a.described_pages, pages);
  return true;
}

// Claims `count` free pages in a row for `me`, or returns false.
bool claim_at(std::uint64_t first, std::uint64_t count, Tag me) noexcept {
  for (std::uint64_t i = 0; i < count; ++i) {
    Word now = read(first + i);
    if (now.kind() != PageKind::free ||
        !exchange(first + i, now, make_word(PageKind::claiming, now.committed(), me, 0))) {
      abandon(first, i);
      return false;
    }
  }
  return true;
}

// Smaller runs always stay committed for the next taker: giving them back saves little and costs a system call.
constexpr std::uint64_t kSmallRun = 16;

}  // namespace

// Highest page first: the first page's word says how far a dead owner had come.
void abandon(std::uint64_t first, std::uint64_t count) noexcept {
  for (std::uint64_t page = first + count; page-- > first;)
    write(page, make_word(PageKind::free, read(page).committed(), kNobody, 0));
}

std::uint64_t claim_run(std::uint64_t count, Tag me) noexcept {
  Arena& a = arena();
  auto search = [&](std::uint64_t from, std::uint64_t to) {
    std::uint64_t run = 0;
    for (std::uint64_t page = from; page < to; ++page) {
      Word word = read(page);
      if (word.kind() != PageKind::free) {
        run = 0;
        if (word.kind() == PageKind::large && word.argument() > 1) page += word.argument() - 1;
        continue;
      }
      if (++run == count && claim_at(page + 1 - count, count, me)) return page + 1 - count;
      if (run == count) run = 0;
    }
    return kNone;
  };
  for (;;) {
    std::uint64_t high = a.high_page.load(std::memory_order_acquire);
    std::uint64_t hint = std::min(a.page_hint.load(std::memory_order_relaxed), high);
    std::uint64_t found = search(hint, high);
    if (found == kNone && hint > 0) found = search(0, std::min(high, hint + count));
    if (found == kNone) {
      // Free pages just below the mark join the new run.
      std::uint64_t first = high;
      while (first > 0 && high - first < count && read(first - 1).kind() == PageKind::free) --first;
      if (first + count > a.pages || !describe_pages(first + count)) return kNone;
      raise_to(a.high_page, first + count);  // before the claim: recover() looks no further
      if (!claim_at(first, count, me)) continue;
      found = first;
    }
    a.page_hint.store(found + count, std::memory_order_relaxed);
    return found;
  }
}

bool commit_run(std::uint64_t first, std::uint64_t count, Tag me, Content content) noexcept {
  for (std::uint64_t i = 0; i < count;) {
    if (read(first + i).committed()) {
      if (content == Content::zero) std::memset(at<void>(page_offset(first + i)), 0, kPage);
      ++i;
      continue;
    }
    std::uint64_t end = i;
    while (end < count && !read(first + end).committed()) ++end;
    if (os::commit(arena_descriptor, page_offset(first + i), (end - i) * kPage) != 0) return false;
    arena().committed_bytes.fetch_add((end - i) * kPage, std::memory_order_relaxed);
    for (; i < end; ++i) write(first + i, make_word(PageKind::claiming, true, me, 0));
  }
  return true;
}

void trim(Tag me) noexcept {
  std::uint64_t high = arena().high_page.load(std::memory_order_acquire);
  for (std::uint64_t page = 0; page < high; ++page) {
    Word word = read(page);
    if (word.kind() != PageKind::free || !word.committed()) continue;
    if (!exchange(page, word, make_word(PageKind::claiming, true, me, 0))) continue;
    os::decommit(arena_descriptor, page_offset(page), kPage);
    arena().committed_bytes.fetch_sub(kPage, std::memory_order_relaxed);
    write(page, make_word(PageKind::free, false, kNobody, 0));
  }
}

// Counted anew each time: a figure kept beside the words would be wrong after a kill. Skips what is in use, so it costs some ns
// per 64 KiB at worst, where giving back costs 4 us.
bool may_stay(std::uint64_t count) noexcept {
  Arena& a = arena();
  if (count < kSmallRun) return true;
  const std::uint64_t high = a.high_page.load(std::memory_order_acquire);
  for (std::uint64_t page = 0; page < high && count <= a.most_idle_pages; ++page) {
    Word word = read(page);
    if (word.kind() == PageKind::large && word.argument() > 1) page += word.argument() - 1;
    count += word.kind() == PageKind::free && word.committed();
  }
  return count <= a.most_idle_pages;
}

// Pages become free from the last to the first, so what is still the run's lies in front, and pages beyond may be others' already.
void finish_freeing(std::uint64_t first, std::uint64_t count, bool keep) noexcept {
  const Word tail = make_word(PageKind::tail, true, kNobody, first);
  while (count > 1 && read(first + count - 1).raw != tail.raw) --count;
  if (!keep) {
    os::decommit(arena_descriptor, page_offset(first), count * kPage);
    arena().committed_bytes.fetch_sub(count * kPage, std::memory_order_relaxed);
  }
  for (std::uint64_t page = first + count; --page > first;) write(page, make_word(PageKind::free, keep, kNobody, 0));
  write(first, make_word(PageKind::free, keep, kNobody, 0));
  // Used again before fresh pages: otherwise a churn of small runs would commit all that was ever in use.
  search_from(first);
}

void search_from(std::uint64_t page) noexcept {
  if (page < arena().page_hint.load(std::memory_order_relaxed))
    arena().page_hint.store(page, std::memory_order_relaxed);
}

}  // namespace mp::memory::detail
