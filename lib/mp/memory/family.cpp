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
#include "mp/os/fence.hpp"
#include "mp/os/fork_page.hpp"
#include "mp/os/launch.hpp"
#include "mp/os/life.hpp"
#include "mp/os/private_fd.hpp"
#include "mp/os/shm.hpp"
#include "mp/os/tether.hpp"
#include "mp/os/threads.hpp"

namespace mp::memory {

namespace detail {
MP_FORK_PAGE std::mutex heap_mutex, bag_mutex;
MP_FORK_PAGE std::atomic<Tag> my_tag{kNobody};
}  // namespace detail

using namespace detail;

namespace {

enum class Phase : std::uint64_t { free, starting, living, retiring, claimed, dead };

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

// The fork under way, guarded by bag_mutex: what its child shall be, and, of a plain fork(2), the errno that was there before. No
// variables of a thread: those lie in a page that the parent need not write.
MP_FORK_PAGE Tag fork_ticket = kNobody;
MP_FORK_PAGE int errno_before_fork = 0;
// The thread that is in fork_as(), which has taken bag_mutex itself; 0: none.
MP_FORK_PAGE std::atomic<pthread_t> forking_as{0};
bool is_forking_as() noexcept { return forking_as.load(std::memory_order_relaxed) == ::pthread_self(); }

// The entry of a child of a plain fork(2) that seems to have failed; guarded by bag_mutex.
MP_FORK_PAGE Tag unborn = kNobody;

// How long an entry whose maker has died waits for its process, which may be just about to speak (a daemon's fork).
constexpr std::chrono::seconds kBirth{5};

std::array<void (*)() noexcept, 16> child_hooks;
std::size_t child_hook_count = 0;
void (*retirement_hook)(Tag, Offset) noexcept = nullptr;

Member& entry(std::size_t index) noexcept { return at<Member>(kMembers)[index]; }
State state_of(std::size_t index) noexcept { return {entry(index).state.load(std::memory_order_acquire)}; }
bool move(std::size_t index, State from, State to) noexcept {
  return entry(index).state.compare_exchange_strong(from.raw, to.raw, std::memory_order_acq_rel,
                                                    std::memory_order_acquire);
}

// Commits the table up to and with `index`.
void describe_member(std::size_t index) {
  Arena& a = arena();
  constexpr std::size_t kStep = 512;  // 64 KiB
  std::size_t done = a.described_members.load(std::memory_order_acquire), need = (index / kStep + 1) * kStep;
  if (need <= done) return;
  std::size_t size = (need - done) * sizeof(Member);
  if (os::commit(arena_descriptor, kMembers + done * sizeof(Member), size) != 0) throw full(size);
  a.committed_bytes.fetch_add(size, std::memory_order_relaxed);
  while (done < need && !a.described_members.compare_exchange_weak(done, need, std::memory_order_acq_rel)) {}
}

// The tag of the entry at `index` in phase starting, if it was free; else kNobody.
Tag claim_at(std::size_t index, Tag creator, Tag parent) noexcept {
  State now = state_of(index);
  if (now.phase() != Phase::free) return kNobody;
  std::uint32_t generation = now.generation() + 1;
  if ((generation & 0x7ffff) == 0) generation = 1;
  // The last member's pid is still there: nobody shall take it for the new one's.
  if (!move(index, now, make_state(Phase::claimed, generation, creator))) return kNobody;
  Member& m = entry(index);
  m.pid.store(0, std::memory_order_relaxed);
  m.seen.store(static_cast<std::uint64_t>(os::monotonic_now().count()), std::memory_order_relaxed);
  m.parent.store(parent, std::memory_order_relaxed);
  m.bag.store(0, std::memory_order_relaxed);
  m.bag_draft.store(0, std::memory_order_relaxed);
  m.record.store(0, std::memory_order_relaxed);
  m.state.store(make_state(Phase::starting, generation, creator).raw, std::memory_order_release);
  std::uint64_t high = arena().high_member.load(std::memory_order_relaxed);
  while (high <= index && !arena().high_member.compare_exchange_weak(high, index + 1, std::memory_order_acq_rel)) {}
  return make_tag(index, generation);
}

// A free entry in phase starting. Fills what is committed before it grows: a table that stays small is few pages for each
// new process to fault in. Retires the dead once when the table seems full.
Tag claim_entry(Tag creator, Tag parent) {
  static std::atomic<std::size_t> last{0};  // where this process found one last: neighbours reuse entries late
  for (int tries = 0; tries < 2; ++tries) {
    std::size_t known = arena().described_members.load(std::memory_order_acquire);
    std::size_t start_at = last.load(std::memory_order_relaxed);
    for (std::size_t i = 0; i < kMaxMembers; ++i) {
      if (i >= known) describe_member(i);
      std::size_t index = i < known ? (start_at + i) % known : i;
      if (index == 0) continue;
      if (Tag tag = claim_at(index, creator, parent); tag != kNobody) {
        last.store(index + 1, std::memory_order_relaxed);
        return tag;
      }
    }
    sweep();
  }
  throw Error("the family is full: " + std::to_string(kMaxMembers - 1) + " processes");
}

// False if the entry was given up meanwhile: its creator died before anybody knew that we exist.
[[gnu::hot]] bool become(Tag tag) noexcept {
  State now = state_of(index_of(tag));
  if (now.phase() != Phase::starting || now.generation() != generation_of(tag)) return false;
  os::Life life = os::this_life();
  Member& m = member(tag);
  m.seen.store(life.seen, std::memory_order_relaxed);
  m.pid.store(life.pid, std::memory_order_release);
  if (!move(index_of(tag), now, make_state(Phase::living, now.generation(), kNobody))) return false;
  my_tag.store(tag, std::memory_order_release);
  return true;
}

// ---- fork: the child of any fork(2) of a member is a member --------------------------------------------------------

// Entry and references of a child are made before the fork, with bag_mutex held until it is over: what the parent lets go
// of right afterwards, the child holds already.

// The entry for a child of the program's own fork(2), which nobody has enlisted; kNobody when table or memory is full.
Tag prepare_plain_child() noexcept {
  Tag me = my_tag.load(std::memory_order_relaxed);
  if (me == kNobody) return kNobody;
  if (Tag last = std::exchange(unborn, kNobody)) dismiss(last);  // does nothing if there is a process after all
  Tag ticket = kNobody;
  try {
    ticket = claim_entry(me, me);
    copy_bag_for(ticket);
    if (Offset record = member(me).record.load(std::memory_order_acquire)) {
      retain(record);
      member(ticket).record.store(record, std::memory_order_release);
    }
    return ticket;
  } catch (const std::exception&) {
    if (ticket != kNobody) dismiss(ticket);
    return kNobody;
  }
}

void before_fork() {
  if (!is_forking_as()) {
    bag_mutex.lock();
    fork_ticket = prepare_plain_child();
    errno_before_fork = std::exchange(errno, 0);
  }
  heap_mutex.lock();
}

void after_fork_in_parent() {
  heap_mutex.unlock();
  if (is_forking_as()) return;
  // These handlers are not told whether fork(2) failed, but then errno is set.
  const int error = errno ? errno : errno_before_fork;
  if (errno != 0) unborn = fork_ticket;
  fork_ticket = kNobody;
  bag_mutex.unlock();
  errno = error;
}

// Hot, as all that a fork child runs in each case: such functions lie side by side in the program, so that it faults in one
// stretch of code instead of three.
[[gnu::hot]] void after_fork_in_child() {
  const Tag ticket = std::exchange(fork_ticket, kNobody);
  const bool was_enlisted = forking_as.exchange(0, std::memory_order_relaxed) != 0;
  unborn = kNobody;
  // Anew rather than unlocked: that needs no page of the C library's code.
  new (&heap_mutex) std::mutex;
  new (&bag_mutex) std::mutex;
  os::tether_after_fork();
  os::close_private_fds();
  os::threads_after_fork();
  if (ticket == kNobody || !become(ticket)) {
    if (was_enlisted) ::_exit(255);
    // Without an entry it can own nothing: it goes on, as a copy that must not use shared objects (self() throws).
    my_tag.store(kNobody, std::memory_order_release);
    return;
  }
  for (std::size_t i = 0; i < child_hook_count; ++i) child_hooks[i]();
}

void install_fork_handlers() {
  static bool installed = false;
  if (std::exchange(installed, true)) return;
  if (int error = ::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child))
    throw OSError(error, "pthread_atfork");
}

std::atomic<bool> started{false};
std::mutex starting_mutex;

// Caller holds starting_mutex.
void join_locked(int fd, Tag tag) {
  map_inherited_arena(fd);
  std::size_t index = index_of(tag);
  if (index == 0 || index >= arena().high_member.load(std::memory_order_acquire))
    throw Error("no such member was enlisted");
  State now = state_of(index);
  if (now.phase() != Phase::starting || now.generation() != generation_of(tag))
    throw Error("no such member was enlisted");
  install_fork_handlers();
  os::enlist_in_fences();
  if (!become(tag)) throw Error("no such member was enlisted");
  started.store(true, std::memory_order_release);
}

}  // namespace

void start() {
  if (started.load(std::memory_order_acquire)) [[likely]]
    return;
  std::lock_guard guard(starting_mutex);
  if (started.load(std::memory_order_relaxed)) return;
  if (auto birth = os::birth()) return join_locked(birth->fd, birth->tag);
  map_new_arena();
  try {
    describe_member(1);
    const Tag me = claim_entry(kNobody, kNobody);
    install_fork_handlers();
    os::enlist_in_fences();
    become(me);
  } catch (...) {
    unmap_arena();  // the next one to ask starts anew
    throw;
  }
  started.store(true, std::memory_order_release);
}

void join(int fd, Tag tag) {
  std::lock_guard guard(starting_mutex);
  if (started.load(std::memory_order_relaxed))
    throw Error("this process has begun a family of its own before it joined its parent's");
  join_locked(fd, tag);
}

int arena_fd() {
  start();
  return arena_descriptor;
}

Tag detail::become_somebody() {
  start();
  Tag tag = my_tag.load(std::memory_order_acquire);
  if (tag == kNobody)
    throw Error("this process found no place in its family's table when it was forked: it cannot use shared objects");
  return tag;
}

[[gnu::hot]] Member& member(Tag tag) noexcept { return entry(index_of(tag)); }

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
        return now.by() == kNobody || alive(now.by()) ||
               os::monotonic_now() <
                   std::chrono::nanoseconds(entry(index).seen.load(std::memory_order_relaxed)) + kBirth;
      case Phase::living: {
        Member& m = entry(index);
        os::Life life{m.pid.load(std::memory_order_acquire), m.seen.load(std::memory_order_relaxed)};
        if (tag == my_tag.load(std::memory_order_relaxed) || os::alive(life)) return true;
        // Not if the entry has been reused while we asked.
        move(index, now, make_state(Phase::dead, now.generation(), kNobody));
        continue;
      }
      default: return false;
    }
  }
}

bool found_dead(Tag tag) noexcept {
  const std::size_t index = index_of(tag);
  if (index == 0 || index >= arena().high_member.load(std::memory_order_acquire)) return true;
  const State now = state_of(index);
  return now.generation() != generation_of(tag) || now.phase() == Phase::dead || now.phase() == Phase::retiring ||
         now.phase() == Phase::free;
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

void orphan(Tag tag, Tag maker) noexcept {
  const State now = state_of(index_of(tag));
  if (now.generation() == generation_of(tag) && now.phase() == Phase::starting)
    move(index_of(tag), now, make_state(Phase::starting, now.generation(), maker));
}

[[gnu::hot]] pid_t fork_as(Tag child) noexcept {
  bag_mutex.lock();
  try {
    copy_bag_for(child);
  } catch (const std::exception&) {
    bag_mutex.unlock();
    dismiss(child);
    errno = ENOSPC;
    return -1;
  }
  fork_ticket = child;
  forking_as.store(::pthread_self(), std::memory_order_relaxed);
  const pid_t pid = os::call_again(os::Call::fork, [] { return ::fork(); });
  if (pid == 0) return 0;
  const int error = pid < 0 ? errno : 0;
  forking_as.store(0, std::memory_order_relaxed);
  fork_ticket = kNobody;
  bag_mutex.unlock();
  if (pid < 0) {
    dismiss(child);
    errno = error;
  }
  if (pid > 0) {
    // It may die before it says so itself.
    std::int32_t unknown = 0;
    if (state_of(index_of(child)).generation() == generation_of(child))
      member(child).pid.compare_exchange_strong(unknown, pid, std::memory_order_release, std::memory_order_relaxed);
  }
  return pid;
}

void at_retirement(void (*hook)(Tag, Offset) noexcept) noexcept { retirement_hook = hook; }

bool retire(Tag tag) noexcept { return !alive(tag) && bury(tag); }

bool bury(Tag tag) noexcept {
  const std::size_t index = index_of(tag);
  State now = state_of(index);
  if (now.generation() != generation_of(tag) || now.phase() == Phase::free) return false;
  if (now.phase() == Phase::retiring && alive(now.by())) return false;
  if (!move(index, now, make_state(Phase::retiring, now.generation(), self()))) return false;
  Member& m = entry(index);
  // One that its creator died claiming holds nothing: its words are the last member's still.
  if (now.phase() != Phase::claimed) {
    empty_bag(m);
    if (Offset record = m.record.load(std::memory_order_acquire)) {
      if (retirement_hook) retirement_hook(tag, record);
      m.record.store(0, std::memory_order_release);
      release(record);
    }
  }
  recover(tag);
  m.state.store(make_state(Phase::free, now.generation(), kNobody).raw, std::memory_order_release);
  return true;
}

void sweep() noexcept {
  Arena& a = arena();
  std::int64_t now = os::monotonic_now().count(), last = a.last_sweep.load(std::memory_order_relaxed);
  if (now - last < os::kSlice.count() || !a.last_sweep.compare_exchange_strong(last, now, std::memory_order_acq_rel))
    return;
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
