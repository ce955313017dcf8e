#include "mp/memory/family.hpp"

#include <pthread.h>
#include <unistd.h>

#include <array>
#include <mutex>
#include <new>

#include "mp/errors.hpp"
#include "mp/memory/layout.hpp"
#include "mp/memory/ref.hpp"
#include "mp/os/call.hpp"
#include "mp/os/clock.hpp"
#include "mp/os/launch.hpp"
#include "mp/os/life.hpp"
#include "mp/os/private_fd.hpp"
#include "mp/os/shm.hpp"
#include "mp/os/tether.hpp"
#include "mp/os/threads.hpp"

namespace mp::memory {

using namespace detail;

namespace {

enum class Phase : std::uint64_t { free, starting, living, retiring, claimed };

struct State {
  std::uint64_t raw;
  Phase phase() const noexcept { return static_cast<Phase>(raw & 0xff); }
  std::uint32_t generation() const noexcept { return static_cast<std::uint32_t>(raw >> 8 & 0x7ffff); }
  Tag by() const noexcept { return static_cast<Tag>(raw >> 32); }
};
constexpr State make_state(Phase phase, std::uint32_t generation, Tag by) noexcept {
  return {static_cast<std::uint64_t>(phase) | std::uint64_t{generation & 0x7ffff} << 8 | std::uint64_t{by} << 32};
}
constexpr Tag make_tag(std::size_t index, std::uint32_t generation) noexcept {
  return static_cast<Tag>(index) | generation << 12;
}
constexpr std::uint32_t generation_of(Tag tag) noexcept { return tag >> 12 & 0x7ffff; }

// What the child of this thread's next fork shall be.
thread_local Tag fork_ticket = kNobody;

std::array<void (*)() noexcept, 16> child_hooks;
std::size_t child_hook_count = 0;

Member& entry(std::size_t index) noexcept { return at<Member>(arena().members)[index]; }
State state_of(std::size_t index) noexcept { return {entry(index).state.load(std::memory_order_acquire)}; }
bool move(std::size_t index, State from, State to) noexcept {
  return entry(index).state.compare_exchange_strong(from.raw, to.raw, std::memory_order_acq_rel, std::memory_order_acquire);
}

// Commits the table up to and with `index`.
void describe_member(std::size_t index) {
  Arena& a = arena();
  constexpr std::size_t kStep = 512;  // 64 KiB
  std::size_t done = a.described_members.load(std::memory_order_acquire), need = (index / kStep + 1) * kStep;
  if (need <= done) return;
  std::size_t size = (need - done) * sizeof(Member);
  if (os::commit(arena_descriptor, a.members + done * sizeof(Member), size) != 0) {
    Usage u = usage();
    throw SharedMemoryFull(size, u.committed, u.capacity);
  }
  a.committed_bytes.fetch_add(size, std::memory_order_relaxed);
  while (done < need && !a.described_members.compare_exchange_weak(done, need, std::memory_order_acq_rel)) {}
}

// A free entry in phase starting. Retires the dead once when the table seems full.
Tag claim_entry(Tag creator, Tag parent) {
  static std::atomic<std::size_t> last{0};  // where this process found one last: neighbours reuse entries late
  for (int tries = 0; tries < 2; ++tries) {
    std::size_t start_at = last.load(std::memory_order_relaxed);
    std::size_t known = arena().described_members.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < kMaxMembers; ++i) {
      std::size_t index = (start_at + i) % kMaxMembers;
      if (index == 0) continue;
      if (index >= known) {
        // Fill what is committed before growing.
        if (i + 1 < known) continue;
        describe_member(index);
        known = arena().described_members.load(std::memory_order_acquire);
      }
      State now = state_of(index);
      if (now.phase() != Phase::free) continue;
      std::uint32_t generation = now.generation() + 1;
      if ((generation & 0x7ffff) == 0) generation = 1;
      // The last member's pid is still there: nobody shall take it for the new one's.
      if (!move(index, now, make_state(Phase::claimed, generation, creator))) continue;
      Member& m = entry(index);
      m.pid.store(0, std::memory_order_relaxed);
      m.start_time.store(0, std::memory_order_relaxed);
      m.parent.store(parent, std::memory_order_relaxed);
      m.bag.store(0, std::memory_order_relaxed);
      m.record.store(0, std::memory_order_relaxed);
      m.state.store(make_state(Phase::starting, generation, creator).raw, std::memory_order_release);
      std::uint64_t high = arena().high_member.load(std::memory_order_relaxed);
      while (high <= index && !arena().high_member.compare_exchange_weak(high, index + 1, std::memory_order_acq_rel)) {}
      last.store(index + 1, std::memory_order_relaxed);
      return make_tag(index, generation);
    }
    sweep();
  }
  throw Error("the family is full: " + std::to_string(kMaxMembers - 1) + " processes");
}

// False if the entry was given up meanwhile: its creator died before anybody knew that we exist.
bool become(Tag tag) noexcept {
  State now = state_of(index_of(tag));
  if (now.phase() != Phase::starting || now.generation() != generation_of(tag)) return false;
  os::Life life = os::this_life();
  Member& m = member(tag);
  m.start_time.store(life.start_time, std::memory_order_relaxed);
  m.pid.store(life.pid, std::memory_order_release);
  if (!move(index_of(tag), now, make_state(Phase::living, now.generation(), kNobody))) return false;
  my_tag.store(tag, std::memory_order_release);
  return true;
}

// ---- fork: the child of any fork(2) of a member is a member --------------------------------------------------------

void before_fork() {
  bag_mutex.lock();
  if (fork_ticket != kNobody) copy_bag_for(fork_ticket);
  heap_mutex.lock();
}

void after_fork_in_parent() {
  heap_mutex.unlock();
  bag_mutex.unlock();
}

void after_fork_in_child() {
  Tag parent = my_tag.load(std::memory_order_relaxed);
  Tag ticket = std::exchange(fork_ticket, kNobody);
  forget_slabs();
  heap_mutex.unlock();
  bag_mutex.unlock();
  os::tether_after_fork();
  os::close_private_fds();
  os::threads_after_fork();
  if (ticket == kNobody) {
    // The program's own fork(2): nobody has enlisted this child, so it does it by itself, as its parent's copy.
    try {
      ticket = claim_entry(parent, parent);
      if (!become(ticket)) throw Error("its parent died");
      std::lock_guard guard(bag_mutex);
      copy_bag_for(ticket);
    } catch (const std::exception&) {
      // Without an entry it can own nothing: it goes on, as a copy that must not use shared objects.
      my_tag.store(kNobody, std::memory_order_release);
      return;
    }
  } else if (!become(ticket)) {
    ::_exit(255);
  }
  adopt_bag();
  for (std::size_t i = 0; i < child_hook_count; ++i) child_hooks[i]();
}

void install_fork_handlers() {
  if (int error = ::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child))
    throw OSError(error, "pthread_atfork");
}

std::atomic<bool> started{false};
std::mutex starting_mutex;

// Caller holds starting_mutex.
void join_locked(int fd, Tag tag) {
  map_inherited_arena(fd);
  std::size_t index = index_of(tag);
  if (index == 0 || index >= arena().high_member.load(std::memory_order_acquire)) throw Error("no such member was enlisted");
  State now = state_of(index);
  if (now.phase() != Phase::starting || now.generation() != generation_of(tag)) throw Error("no such member was enlisted");
  install_fork_handlers();
  if (!become(tag)) throw Error("no such member was enlisted");
  adopt_bag();
  started.store(true, std::memory_order_release);
}

}  // namespace

void start() {
  if (started.load(std::memory_order_acquire)) [[likely]] return;
  std::lock_guard guard(starting_mutex);
  if (started.load(std::memory_order_relaxed)) return;
  if (auto birth = os::birth()) return join_locked(birth->fd, birth->tag);
  map_new_arena();
  describe_member(1);
  install_fork_handlers();
  become(claim_entry(kNobody, kNobody));
  started.store(true, std::memory_order_release);
}

void join(int fd, Tag tag) {
  std::lock_guard guard(starting_mutex);
  if (started.load(std::memory_order_relaxed)) throw Error("this process has begun a family of its own before it joined its parent's");
  join_locked(fd, tag);
}

int arena_fd() {
  start();
  return arena_descriptor;
}

Tag detail::become_somebody() {
  start();
  Tag tag = my_tag.load(std::memory_order_acquire);
  if (tag == kNobody) throw Error("this process found no place in its family's table when it was forked: it cannot use shared objects");
  return tag;
}

Member& member(Tag tag) noexcept { return entry(index_of(tag)); }

bool alive(Tag tag) noexcept {
  std::size_t index = index_of(tag);
  if (index == 0 || index >= arena().high_member.load(std::memory_order_acquire)) return false;
  for (;;) {
    State now = state_of(index);
    if (now.generation() != generation_of(tag)) return false;
    switch (now.phase()) {
      case Phase::claimed: return now.by() == kNobody || alive(now.by());
      case Phase::starting:
        // Between fork and its first step the creator knows its pid; before the fork only the creator's life counts.
        if (pid_t pid = entry(index).pid.load(std::memory_order_acquire)) {
          if (os::alive({pid, 0})) return true;
          if (state_of(index).raw == now.raw) return false;
          continue;
        }
        return now.by() == kNobody || alive(now.by());
      case Phase::living: {
        Member& m = entry(index);
        os::Life life{m.pid.load(std::memory_order_acquire), m.start_time.load(std::memory_order_relaxed)};
        if (tag == my_tag.load(std::memory_order_relaxed) || os::alive(life)) return true;
        // The entry may have been reused while we asked.
        if (state_of(index).raw == now.raw) return false;
        continue;
      }
      default: return false;
    }
  }
}

pid_t pid_of(Tag tag) noexcept {
  std::size_t index = index_of(tag);
  if (index == 0 || index >= arena().high_member.load(std::memory_order_acquire)) return 0;
  return state_of(index).generation() == generation_of(tag) ? entry(index).pid.load(std::memory_order_relaxed) : 0;
}

Tag enlist(Tag parent) {
  Tag creator = self();
  return claim_entry(creator, parent);
}

void dismiss(Tag tag) noexcept {
  Member& m = member(tag);
  State now = state_of(index_of(tag));
  if (now.generation() != generation_of(tag) || now.phase() != Phase::starting) return;
  empty_bag(m);
  if (Offset record = m.record.exchange(0, std::memory_order_acq_rel)) release(record);
  move(index_of(tag), now, make_state(Phase::free, now.generation(), kNobody));
}

pid_t fork_as(Tag child) noexcept {
  fork_ticket = child;
  pid_t pid = os::call(os::Call::fork, [] { return ::fork(); });
  if (pid == 0) return 0;
  int saved = errno;
  fork_ticket = kNobody;
  if (pid < 0) dismiss(child);
  if (pid > 0) {
    // It may die before it says so itself.
    std::int32_t unknown = 0;
    if (state_of(index_of(child)).generation() == generation_of(child))
      member(child).pid.compare_exchange_strong(unknown, pid, std::memory_order_release, std::memory_order_relaxed);
  }
  errno = saved;
  return pid;
}

bool retire(Tag tag) noexcept {
  std::size_t index = index_of(tag);
  if (alive(tag)) return false;
  State now = state_of(index);
  if (now.generation() != generation_of(tag) || now.phase() == Phase::free) return false;
  if (now.phase() == Phase::retiring && alive(now.by())) return false;
  if (!move(index, now, make_state(Phase::retiring, now.generation(), self()))) return false;
  Member& m = entry(index);
  empty_bag(m);
  if (Offset record = m.record.exchange(0, std::memory_order_acq_rel)) release(record);
  recover(tag);
  m.state.store(make_state(Phase::free, now.generation(), kNobody).raw, std::memory_order_release);
  return true;
}

void sweep() noexcept {
  Arena& a = arena();
  std::int64_t now = os::monotonic_now().count(), last = a.last_sweep.load(std::memory_order_relaxed);
  if (now - last < os::kSlice.count() || !a.last_sweep.compare_exchange_strong(last, now, std::memory_order_acq_rel)) return;
  std::uint64_t high = a.high_member.load(std::memory_order_acquire);
  for (std::size_t index = 1; index < high; ++index) {
    State state = state_of(index);
    if (state.phase() != Phase::free) retire(make_tag(index, state.generation()));
  }
}

void at_fork_in_child(void (*hook)() noexcept) {
  if (child_hook_count == child_hooks.size()) throw Error("too many fork hooks");
  child_hooks[child_hook_count++] = hook;
}

}  // namespace mp::memory
