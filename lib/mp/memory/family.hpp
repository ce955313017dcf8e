// The family: a process and all its descendants, as far as they were made through this library or by fork(2). Its table
// of members is how anything shared names its owner: a tag, index and generation, whose life is asked of the kernel.
//
// A member's entry goes Free -> Claimed -> Starting (by its creator) -> Living (by itself) -> Dead (by whoever was first to
// find it so) -> Retiring -> Free. Each step is one compare-exchange of `state`; a claim carries the tag of who made it, so a
// death in between is found and finished by the next.
//
// *Thread and process safety*: all functions, from any thread of any process of the family.
// *If a process is killed*: its entry stays Living until sweep() or retire() in any other process; then its references
// are released and its slabs given up. The sweeper killed: the next one begins again.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "mp/memory/arena.hpp"

namespace mp::memory {

inline constexpr std::size_t kMaxMembers = 4096;

struct alignas(128) Member {
  // bits 0-7 phase, bits 8-31 generation, bits 32-62 tag of the creator (Claimed, Starting) or of the sweeper (Retiring)
  std::atomic<std::uint64_t> state;
  std::atomic<std::int32_t> pid;
  std::atomic<std::uint64_t> seen;  // as in os::Life; until it lives: when it was claimed, CLOCK_MONOTONIC in ns
  std::atomic<Tag> parent;
  std::atomic<Offset> bag;        // references it holds (ref.cpp)
  std::atomic<Offset> bag_draft;  // a piece of a bag that it is making, its own or a child's
  // Of the process room: set by enlist's caller, owned by the member, released by retire(). A child of the program's own
  // fork(2) gets that of its parent.
  std::atomic<Offset> record;
};

namespace detail {
// This process. Written when it becomes a member, also in a fork child before anything else runs there.
extern std::atomic<Tag> my_tag;
Tag become_somebody();
}  // namespace detail

// The calling process. Starts the family if need be. Throws Error in the child of a plain fork(2) that found the table full.
inline Tag self() {
  Tag tag = detail::my_tag.load(std::memory_order_acquire);
  return tag != kNobody ? tag : detail::become_somebody();
}

inline std::size_t index_of(Tag tag) noexcept { return tag & (kMaxMembers - 1); }
Member& member(Tag tag) noexcept;

// Whether the process lives, by the kernel's word (some 5 us), which is asked until somebody has found it dead. A member that is
// being started counts as alive as long as its creator is. False for kNobody.
bool alive(Tag tag) noexcept;

// Whether its death has been found by somebody: no question to the kernel, and no long look. False while only the kernel knows.
bool found_dead(Tag tag) noexcept;

// Its pid, for messages; 0 if that is no longer known.
pid_t pid_of(Tag tag) noexcept;

// An entry for a child that is about to be made, creator and parent as given. Throws Error when the table is full.
Tag enlist(Tag parent);

// Gives an enlisted entry up: no process came of it.
void dismiss(Tag tag) noexcept;

// An enlisted entry whose process `maker` was to fork, now that it is dead: a process may just have come of it and not have spoken. If
// none speaks within five seconds, the next sweep frees the entry.
void orphan(Tag tag, Tag maker) noexcept;

// fork(2), the child being member `child` (enlisted) with a reference to everything that the caller holds.
// 0 in the child, its pid in the parent, -1 with errno when fork failed (the entry is dismissed); ENOSPC when shared memory is
// full.
pid_t fork_as(Tag child) noexcept;

// In a process that was executed afresh: maps the family's arena from `fd` and becomes member `tag`.
// Throws Error if `fd` is no arena of this version of the library or `tag` was not enlisted. Keeps `fd`.
void join(int fd, Tag tag);

// The arena's descriptor (close-on-exec), to be handed to an executed child.
int arena_fd();

// Releases what `tag`, found dead, has held. False if it lives, or another process is doing it.
bool retire(Tag tag) noexcept;
// The same for one that the caller knows to be dead, having reaped it: the kernel is not asked again.
bool bury(Tag tag) noexcept;

// Retires every dead member, at most once in 20 ms for the whole family; called by whoever has waited in vain for a while.
void sweep() noexcept;

// Called with each member that retires and its record (0: none), before that is released: what the record keeps for the member alone is of
// no use any more. Called again where the sweeper was killed in it. One hook, set before the first process is made.
void at_retirement(void (*hook)(Tag tag, Offset record) noexcept) noexcept;

// Called in every fork child right after it has become a member, in the order of registration: rooms reset there what a
// copy must not inherit. At most 16, before the first fork; no locks are held.
void at_fork_in_child(void (*hook)() noexcept);

}  // namespace mp::memory
