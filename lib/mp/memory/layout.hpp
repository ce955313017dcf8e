// The arena's first bytes and tables: what the sources of this room share. Nobody else includes this.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "mp/memory/arena.hpp"
#include "mp/memory/family.hpp"

namespace mp::memory::detail {

inline constexpr std::size_t kPage = 64 * 1024;
inline constexpr std::size_t kLeastBlock = 32;
inline constexpr std::size_t kBitmapWords = kPage / kLeastBlock / 64;
inline constexpr Offset kMembers = 4096;                            // the table of members, right behind the header
inline constexpr std::uint64_t kMagic = 0x31'616e'6572'6170'6dull;  // "mparena1"

struct Arena {
  std::uint64_t magic;
  std::uint64_t layout;               // changes with every struct in the arena: refuses a different build
  std::uint64_t agreed_base;          // where the whole family maps it if it can
  std::uint64_t capacity;             // bytes, everything included
  std::uint64_t pages;                // how many
  std::uint64_t most_idle_pages;      // free pages that may stay committed
  Offset words, bitmaps, first_page;  // the tables
  alignas(64) std::atomic<std::uint64_t> committed_bytes;
  std::atomic<std::uint64_t> described_pages;  // tables are committed for pages below this
  std::atomic<std::uint64_t> described_members;
  std::atomic<std::uint64_t> high_page;  // no page at or above was ever claimed
  std::atomic<std::uint64_t> high_member;
  std::atomic<std::uint64_t> orphans;                // slabs without owner, at least (a hint)
  std::atomic<std::uint64_t> page_hint;              // where to look for free pages next (a hint)
  alignas(64) std::atomic<std::int64_t> last_sweep;  // CLOCK_MONOTONIC, ns
};

inline Arena& arena() noexcept { return *at<Arena>(0); }

// The descriptor, and the private locks that a fork must find free. Set up by start() and join().
inline int arena_descriptor = -1;
extern std::mutex heap_mutex, bag_mutex;  // family.cpp

// Maps a new or an inherited arena: sets base, capacity, arena_descriptor (family.cpp calls them once).
void map_new_arena();
void unmap_arena() noexcept;  // as if there had been none
void map_inherited_arena(int fd);

// ref.cpp: the bag of `child`, holding what this process holds; caller holds bag_mutex.
void copy_bag_for(Tag child);
void empty_bag(Member& dead) noexcept;

}  // namespace mp::memory::detail
