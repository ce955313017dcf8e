#include "mp/memory/ref.hpp"

#include <algorithm>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "mp/errors.hpp"
#include "mp/memory/family.hpp"
#include "mp/memory/layout.hpp"

namespace mp::memory {
namespace {

// A piece of a process's bag: offsets of the objects it holds, 0 = empty place. Only the owner writes entries, and after
// its death the one sweeper; each entry is one word. What a death leaves behind follows from its lowest bits:
constexpr Offset kHeld = 0;   // held: to be released
constexpr Offset kDraft = 1;  // being made, known to nobody else: to be freed, if it was allocated
constexpr Offset kLeaving =
    2;  // being released: counted still or no longer, so it is left alone: at worst a count too many
constexpr Offset kGone = 3;  // released, the last holder was this one: to be destroyed
constexpr Offset kStateMask = 3;

struct Bag {
  std::atomic<Offset> next;
  std::uint64_t places;
  std::atomic<Offset>* entries() noexcept { return reinterpret_cast<std::atomic<Offset>*>(this + 1); }
};
constexpr std::size_t kFirstPlaces = 62;

struct Holding {
  std::uint32_t refs;          // in this process
  std::atomic<Offset>* entry;  // in its bag
};

// Private, guarded by bag_mutex. Never destroyed: Refs in globals and thread-locals may outlive any order of destruction.
struct Holdings {
  Tag owner = kNobody;  // whose bag the entries lie in
  std::unordered_map<Offset, Holding> map;
  std::vector<std::atomic<Offset>*> free_entries;
};
Holdings& all_holdings() {
  static auto& all = *new Holdings;
  return all;
}

// A fork child has its parent's copy: the same objects, whose entries it looks up in its own bag. Without a bag it holds nothing.
void adopt_bag(Holdings& all, Tag me) {
  all.free_entries.clear();
  if (me == kNobody) all.map.clear();
  for (Offset block = me == kNobody ? 0 : member(me).bag.load(std::memory_order_acquire); block;) {
    Bag& bag = *at<Bag>(block);
    for (std::size_t i = bag.places; i-- > 0;) {
      Offset object = bag.entries()[i].load(std::memory_order_relaxed);
      if (object == 0) {
        all.free_entries.push_back(&bag.entries()[i]);
      } else if (auto found = all.map.find(object); found != all.map.end()) {
        found->second.entry = &bag.entries()[i];
      }
    }
    block = bag.next.load(std::memory_order_relaxed);
  }
  all.owner = me;
}

// This process's; adopted at their first use, since a child that never touches a shared object need not copy their pages.
Holdings& own_holdings() {
  Holdings& all = all_holdings();
  if (Tag me = detail::my_tag.load(std::memory_order_relaxed); all.owner != me) [[unlikely]]
    adopt_bag(all, me);
  return all;
}
auto& holdings() { return own_holdings().map; }
auto& free_entries() { return own_holdings().free_entries; }

struct KindsDestroyer {
  Destroyer destroy = nullptr;
  std::size_t align = alignof(Header);
};
KindsDestroyer destroyers[static_cast<std::size_t>(Kind::last)];

// Named in this process's entry until it is recorded. Caller holds bag_mutex.
Offset new_bag(std::size_t places) {
  Offset block =
      allocate(sizeof(Bag) + places * sizeof(Offset), alignof(Bag), Content::any, Draft{&member(self()).bag_draft, 0});
  Bag& bag = *new (at<void>(block)) Bag{{0}, places};
  for (std::size_t i = 0; i < places; ++i) new (&bag.entries()[i]) std::atomic<Offset>(0);
  return block;
}

// An empty place in this process's bag, which grows by doubling.
std::atomic<Offset>* take_entry() {
  auto& list = free_entries();
  if (list.empty()) {
    Member& me = member(self());
    std::size_t places = std::max(kFirstPlaces, holdings().size());
    list.reserve(places + list.capacity());
    Offset block = new_bag(places);
    Bag& bag = *at<Bag>(block);
    bag.next.store(me.bag.load(std::memory_order_relaxed), std::memory_order_relaxed);
    me.bag.store(block, std::memory_order_release);
    me.bag_draft.store(0, std::memory_order_release);
    for (std::size_t i = places; i-- > 0;) list.push_back(&bag.entries()[i]);
  }
  auto* entry = list.back();
  list.pop_back();
  return entry;
}

// `entry`: which names it as gone, if any, and is 0 afterwards.
void destroy(Offset object, std::atomic<Offset>* entry = nullptr) noexcept {
  Header& header = header_of(object);
  const auto kind = static_cast<std::size_t>(header.kind);
  const KindsDestroyer known = kind < std::size(destroyers) ? destroyers[kind] : KindsDestroyer();
  if (known.destroy && object % known.align == 0) known.destroy(at<void>(object));
  header.kind = Kind::none;
  deallocate(object, entry);
}

// The place of `object` in the bag; taken and filled, the object counted for it. A kill right between count and place leaks one count and
// frees nothing early; all that takes time comes before.
void enter(Offset object) {
  auto* entry = take_entry();
  try {
    holdings().emplace(object, Holding{1, entry});
  } catch (...) {
    free_entries().push_back(entry);
    throw;
  }
  touch(object);
  retain(object);
  entry->store(object | kHeld, std::memory_order_release);
}

// Releases what `entry` names; whether that was its last holder, who destroys it then.
bool leave(Offset object, std::atomic<Offset>& entry) noexcept {
  touch(object);
  entry.store(object | kLeaving, std::memory_order_release);
  const bool last = header_of(object).holders.fetch_sub(1, std::memory_order_acq_rel) == 1;
  entry.store(last ? object | kGone : 0, std::memory_order_release);
  return last;
}

}  // namespace

bool set_destroyer(Kind kind, Destroyer destroy, std::size_t align) noexcept {
  destroyers[static_cast<std::size_t>(kind)] = {destroy, align};
  return true;
}

void retain(Offset object) noexcept { header_of(object).holders.fetch_add(1, std::memory_order_relaxed); }

void release(Offset object) noexcept {
  if (header_of(object).holders.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy(object);
}

bool is_any_object(Offset object) noexcept {
  if (object % 16 != 0 || object < sizeof(Header)) return false;
  const auto* header = reinterpret_cast<const Header*>(block_at(object - sizeof(Header), sizeof(Header)));
  if (header == nullptr || header->holders.load(std::memory_order_relaxed) == 0) return false;
  return header->kind > Kind::none && header->kind < Kind::last;
}

bool is_object(Offset object, Kind kind, std::uint64_t type) noexcept {
  if (!is_any_object(object)) return false;
  const Header& header = header_of(object);
  return header.kind == kind && (type == 0 || header.type == type);
}

bool try_release(Offset object) noexcept {
  if (!is_any_object(object)) return false;
  release(object);
  return true;
}

Offset create_raw(Kind kind, std::uint64_t type, std::size_t size, std::size_t align, Content content, Draft draft) {
  std::size_t front = std::max(align, sizeof(Header));
  draft.mark += front;
  Offset object = allocate(front + size, front, content, draft) + front;
  new (&header_of(object)) Header{{1}, kind, type};
  return object;
}

void Ref::refuse_empty() { throw ValueError("this handle names no shared object: it has been moved from"); }

void Ref::hold(Offset object) {
  std::lock_guard guard(detail::bag_mutex);
  auto& map = holdings();
  if (auto found = map.find(object); found != map.end()) {
    ++found->second.refs;
    return;
  }
  if (!is_any_object(object)) throw UnpicklingError("a handle names no shared object in this family (any more)");
  enter(object);
}

void Ref::drop(Offset object) noexcept {
  std::unique_lock guard(detail::bag_mutex);
  auto& map = holdings();
  auto found = map.find(object);
  if (found == map.end() || --found->second.refs > 0) return;
  auto* entry = found->second.entry;
  map.erase(found);
  if (leave(object, *entry)) {
    guard.unlock();  // other objects may go with it
    destroy(object, entry);
    guard.lock();
  }
  free_entries().push_back(entry);
}

Newborn::Newborn() {
  start();
  std::lock_guard guard(detail::bag_mutex);
  entry_ = take_entry();
}

Newborn::~Newborn() {
  if (!entry_) return;
  if (object_) deallocate(object_, entry_);
  std::lock_guard guard(detail::bag_mutex);
  free_entries().push_back(entry_);
}

Offset Newborn::make(Kind kind, std::uint64_t type, std::size_t size, std::size_t align, Content content) {
  return object_ = create_raw(kind, type, size, align, content, Draft{entry_, kDraft});
}

Ref Newborn::hand_out() {
  std::lock_guard guard(detail::bag_mutex);
  holdings().emplace(object_, Holding{1, entry_});
  std::exchange(entry_, nullptr)->store(object_ | kHeld, std::memory_order_release);
  Ref ref;
  ref.object_ = object_;
  return ref;
}

NewBlock::NewBlock(std::size_t size, std::size_t align) {
  start();
  {
    std::lock_guard guard(detail::bag_mutex);
    entry_ = take_entry();
  }
  try {
    block_ = allocate(size, align, Content::any, Draft{entry_, kDraft});
  } catch (...) {
    std::lock_guard guard(detail::bag_mutex);
    free_entries().push_back(entry_);
    throw;
  }
}

NewBlock::~NewBlock() {
  if (block_) deallocate(block_, entry_);
  std::lock_guard guard(detail::bag_mutex);
  free_entries().push_back(entry_);
}

Offset NewBlock::hand_out() noexcept {
  entry_->store(0, std::memory_order_release);
  return std::exchange(block_, 0);
}

namespace detail {

void copy_bag_for(Tag child) {
  Member& m = member(child);
  auto& map = holdings();
  if (map.empty()) return;
  Offset block = new_bag(std::max(kFirstPlaces, map.size() + map.size() / 2));
  Bag& bag = *at<Bag>(block);
  // In this order: after a death in between nobody knows the block, but nobody frees it twice.
  member(self()).bag_draft.store(0, std::memory_order_release);
  m.bag.store(block, std::memory_order_release);
  std::size_t place = 0;
  for (auto& [object, holding] : map) {
    retain(object);
    bag.entries()[place++].store(object, std::memory_order_release);
  }
}

void empty_bag(Member& dead) noexcept {
  // What is in use still lies in a slab of the dead one's, where nobody else allocates before recover(): so it is that block.
  if (Offset draft = dead.bag_draft.load(std::memory_order_acquire)) {
    if (draft != dead.bag.load(std::memory_order_relaxed) && block_size(draft) != 0) deallocate(draft, &dead.bag_draft);
    dead.bag_draft.store(0, std::memory_order_release);
  }
  while (Offset block = dead.bag.load(std::memory_order_acquire)) {
    Bag* const found = array_at<Bag>(block, 1);
    // What a damaged bag no longer names stays: leaked, but nobody else's is released for it.
    const std::uint64_t places = found != nullptr ? found->places : 0;
    if (places == 0 || places > (room_at(block) - sizeof(Bag)) / sizeof(Offset))
      return dead.bag.store(0, std::memory_order_release);
    Bag& bag = *found;
    for (std::size_t i = 0; i < places; ++i) {
      std::atomic<Offset>& entry = bag.entries()[i];
      const Offset now = entry.load(std::memory_order_acquire), object = now & ~kStateMask;
      switch (now & kStateMask) {
        case kHeld:
          if (is_any_object(object) && leave(object, entry)) destroy(object, &entry);
          break;
        case kDraft:
          if (block_size(object) != 0) deallocate(object, &entry);
          break;
        case kGone:
          if (block_size(object) != 0) destroy(object, &entry);
          break;
        default: break;
      }
    }
    dead.bag.store(bag.next.load(std::memory_order_relaxed), std::memory_order_release);
    if (!try_deallocate(block)) return dead.bag.store(0, std::memory_order_release);
  }
}

}  // namespace detail
}  // namespace mp::memory
