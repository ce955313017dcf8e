#include "mp/sync/ledger.hpp"

#include <algorithm>
#include <new>

#include "mp/memory/family.hpp"
#include "mp/memory/ref.hpp"

namespace mp::sync {
namespace {

constexpr memory::Tag holder_of(std::uint64_t entry) noexcept { return static_cast<memory::Tag>(entry & 0x7fffffff); }
constexpr std::uint32_t count_in(std::uint64_t entry) noexcept { return static_cast<std::uint32_t>(entry >> 32); }
constexpr std::uint64_t make_entry(memory::Tag holder, std::uint32_t count) noexcept {
  return count ? std::uint64_t{holder} | std::uint64_t{count} << 32 : 0;
}

}  // namespace

template <class F>
bool Ledger::any_entry(F&& f) const noexcept {
  for (Entry& e : entries_)
    if (f(e)) return true;
  // As many blocks as hold all members, and no more: a damaged chain may lead anywhere, back to itself, too.
  memory::Offset at = next_.load(std::memory_order_acquire);
  for (std::size_t left = memory::kMaxMembers; at && left > 0; --left) {
    Block* block = memory::array_at<Block>(at, 1);
    if (block == nullptr) break;
    for (Entry& e : block->entries)
      if (f(e)) return true;
    at = block->next.load(std::memory_order_acquire);
  }
  return false;
}

void Ledger::add(memory::Tag holder, std::uint32_t n) {
  Entry* empty = nullptr;
  bool found = any_entry([&](Entry& e) {
    std::uint64_t now = e.load(std::memory_order_relaxed);
    if (now == 0 && !empty) empty = &e;
    if (now == 0 || holder_of(now) != holder) return false;
    e.store(make_entry(holder, count_in(now) + n), std::memory_order_release);
    return true;
  });
  if (found) return;
  if (!empty) {
    memory::NewBlock fresh(sizeof(Block));
    Block& block = *new (memory::at<void>(fresh.offset())) Block;
    block.next.store(next_.load(std::memory_order_relaxed), std::memory_order_relaxed);
    empty = &block.entries[0];
    next_.store(fresh.hand_out(), std::memory_order_release);
  }
  empty->store(make_entry(holder, n), std::memory_order_release);
}

std::uint32_t Ledger::take(memory::Tag holder, std::uint32_t n) noexcept {
  std::uint32_t taken = 0;
  any_entry([&](Entry& e) {
    std::uint64_t now = e.load(std::memory_order_relaxed);
    if (now == 0 || holder_of(now) != holder) return false;
    taken = std::min(n, count_in(now));
    e.store(make_entry(holder, count_in(now) - taken), std::memory_order_release);
    return true;
  });
  return taken;
}

std::uint32_t Ledger::take_any(std::uint32_t n) noexcept {
  std::uint32_t taken = 0;
  any_entry([&](Entry& e) {
    std::uint64_t now = e.load(std::memory_order_relaxed);
    std::uint32_t here = std::min(n - taken, count_in(now));
    if (here) e.store(make_entry(holder_of(now), count_in(now) - here), std::memory_order_release);
    return (taken += here) == n;
  });
  return taken;
}

std::uint64_t Ledger::sum() const noexcept {
  std::uint64_t total = 0;
  any_entry([&](Entry& e) {
    total += count_in(e.load(std::memory_order_acquire));
    return false;
  });
  return total;
}

std::uint32_t Ledger::count_of(memory::Tag holder) const noexcept {
  std::uint32_t count = 0;
  any_entry([&](Entry& e) {
    std::uint64_t now = e.load(std::memory_order_acquire);
    if (now == 0 || holder_of(now) != holder) return false;
    count = count_in(now);
    return true;
  });
  return count;
}

template <class Dead>
memory::Tag Ledger::holder_that(Dead dead) const noexcept {
  memory::Tag found = memory::kNobody;
  any_entry([&](Entry& e) {
    std::uint64_t now = e.load(std::memory_order_acquire);
    if (now == 0 || !dead(holder_of(now))) return false;
    found = holder_of(now);
    return true;
  });
  return found;
}

memory::Tag Ledger::dead_holder() const noexcept {
  return holder_that([](memory::Tag holder) { return !memory::alive(holder); });
}

memory::Tag Ledger::found_dead_holder() const noexcept { return holder_that(memory::found_dead); }

std::uint64_t Ledger::drop_dead() noexcept {
  std::uint64_t dropped = 0;
  any_entry([&](Entry& e) {
    std::uint64_t now = e.load(std::memory_order_relaxed);
    if (now == 0 || memory::alive(holder_of(now))) return false;
    dropped += count_in(now);
    e.store(0, std::memory_order_release);
    return false;
  });
  return dropped;
}

void Ledger::free_blocks() noexcept {
  while (const Block* block = memory::array_at<Block>(next_.load(std::memory_order_acquire), 1)) {
    const memory::Offset at = next_.exchange(block->next.load(std::memory_order_relaxed), std::memory_order_acq_rel);
    if (!memory::try_deallocate(at)) break;
  }
}

}  // namespace mp::sync
