// The task board: where a pool's owner posts tasks and its workers claim them, in the arena. One process posts (any of
// its threads), its workers claim and publish.
//
//     owner                       board                            worker w
//     take a free slot, fill it
//     line[tail] = slot           ---> slots: free -> posted ---->  intent = slot; CAS posted -> claimed by w
//     result(): sleep on the slot <--- claimed -> done        <---  write the result; exchange -> done
//     slot becomes free again
//
// Invariants:
//  1. A slot's phase changes by one atomic operation on `state`: by the owner free -> posted, posted -> cancelled and
//     done -> free; by the worker it names posted -> claimed and claimed -> done; after that worker's death, and only
//     then, by the owner claimed -> posted (again) or claimed -> done.
//  2. A worker writes its `intent` before it claims, so at its death that one slot is all it can have held.
//  3. `head` is a hint: every position below it is no longer posted. Whoever finds it behind moves it on.
//  4. A place in line names slot and generation, or is 0: not yet. One that is read too late names nothing.
//  5. An idle worker leaves `looking` and enters `asleep` before its last look at the line, and leaves both before it claims; who
//     posts looks at them after. So a task that nobody was woken for is seen by one who looks, and he wakes the next for what is left.
//  6. A segment of the line says which it is. While head stands in it or before, it is not used again: so who has moved head
//     on from a position has read that position's own place.
// Commit points: post = the store of the place in line; there is no count beside it, so a stream of posts moves one cache line for eight
// tasks and each task's own.
// State word: bits 0-3 phase, 4 someone sleeps on it, 5 report its end to the supervisor, 8-31 worker, 32-63 generation.
// The low half is the futex word.
//
// Hints, which decide only who is woken: `tiny_`, `last_`, `done_then_`, `watched_`. They are read and written relaxed (`last_` under the lock
// of those who post); one that is wrong, or left so by a kill, costs a wake-up too many or lets a task wait for more_hands(), a millisecond or two.
//
// *Memory ordering*: what the owner wrote before post() is visible to the worker that claims; what the worker wrote
// before publish() is visible to whoever sees done.
// *If a process is killed*: a worker in mid-task: its slot stays claimed by it until the owner settles the matter
// (invariant 2). A worker between tasks: nothing. The owner: its workers die with it.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "mp/memory/arena.hpp"
#include "mp/pickle/code.hpp"
#include "mp/pool/parcel.hpp"
#include "mp/pool/worker_set.hpp"

namespace mp::pool {

enum class Phase : std::uint64_t { free, posted, claimed, done, cancelled };

// How a done task ended.
enum class Outcome : std::uint8_t {
  value,      // the result is the value
  exception,  // the result is the exception (failure.hpp)
  no_room,    // shared memory was full: the size of `result` says for how many bytes
  lost,       // crashed or out of time: the owner knows the error (ProcessEngine::error_of)
};

namespace word {
inline constexpr std::uint64_t kSleeper = 16, kReport = 32;
constexpr Phase phase(std::uint64_t state) noexcept { return static_cast<Phase>(state & 15); }
constexpr std::uint32_t worker(std::uint64_t state) noexcept {
  return static_cast<std::uint32_t>(state >> 8 & 0xffffff);
}
constexpr std::uint32_t generation(std::uint64_t state) noexcept { return static_cast<std::uint32_t>(state >> 32); }
constexpr std::uint64_t flags(std::uint64_t state) noexcept { return state & (kSleeper | kReport); }
constexpr std::uint64_t make(Phase phase, std::uint32_t generation, std::uint32_t worker = 0) noexcept {
  return static_cast<std::uint64_t>(phase) | std::uint64_t{worker} << 8 | std::uint64_t{generation} << 32;
}
}  // namespace word

inline constexpr std::size_t kInline = 112;

// What is rare about a task, and lies in the slot's last line: nobody looks there without need.
namespace rare {
inline constexpr std::uint8_t kChunk = 1;      // its arguments begin with a ChunkHead (job.hpp)
inline constexpr std::uint8_t kLimited = 2;    // `limits`
inline constexpr std::uint8_t kArguments = 4;  // `arguments`: they are not in place
inline constexpr std::uint8_t kResult = 8;     // `result`: it is not in place
}  // namespace rare

// A small task and its result are one cache line, there and back.
struct alignas(64) Slot {
  std::atomic<std::uint64_t> state;
  std::atomic<std::uint16_t> cpu;  // on which it was posted, then claimed
  Outcome outcome;
  std::uint8_t attempts_left;  // further tries after a failure; written by whoever holds the slot
  std::uint8_t rare;
  std::uint8_t crowd;                         // how many eights of tasks were under way when it was posted, 255 at most
  std::uint8_t argument_bytes, result_bytes;  // in `place`
  pickle::CodeRef run;                        // void run(pickle::Reader&, pickle::Writer&)
  std::byte
      place[kInline];     // the arguments', then the result's bytes where they fit; the first 32 are in the first line
  memory::Offset limits;  // a block with its Limits
  std::atomic<std::uint32_t> next;  // of the list of reported ends: index + 1, 0 = last
  Parcel arguments, result;

  bool is(std::uint8_t what) const noexcept { return rare & what; }
  // What was written to `place`, or elsewhere where it did not fit. Throw SharedMemoryFull.
  void set_arguments(pickle::Writer& from) { keep(from, argument_bytes, arguments, rare::kArguments); }
  void set_result(pickle::Writer& from) { keep(from, result_bytes, result, rare::kResult); }
  // In the result's stead: that there was no room for it.
  void set_no_room(std::size_t asked) noexcept {
    forget(result, rare::kResult);
    result.size = static_cast<std::uint32_t>(std::min<std::size_t>(asked, UINT32_MAX));
    outcome = Outcome::no_room;
  }
  // Of what the other side has written. Throws UnpicklingError if it cannot be there.
  std::span<const std::byte> argument_payload() const {
    return is(rare::kArguments) ? payload(arguments, {}) : in_place(argument_bytes);
  }
  std::span<const std::byte> result_payload() const {
    return is(rare::kResult) ? payload(result, {}) : in_place(result_bytes);
  }
  // Frees what does not lie in place, and forgets what was rare.
  void discard_rare() noexcept {
    if (is(rare::kArguments)) discard(arguments);
    if (is(rare::kResult)) discard(result);
    if (is(rare::kLimited)) memory::try_deallocate_recorded(limits);
    rare = 0;
  }

 private:
  std::span<const std::byte> in_place(std::uint8_t size) const {
    if (size > sizeof place) [[unlikely]]
      return payload({size, 0, 0}, place);  // which refuses it
    return {place, size};
  }
  // What an attempt has left whose worker died before it was published, or that found no room.
  void forget(Parcel& parcel, std::uint8_t what) noexcept {
    if (!is(what)) [[likely]]
      return;
    discard(parcel);
    rare &= static_cast<std::uint8_t>(~what);
  }
  void keep(pickle::Writer& from, std::uint8_t& size, Parcel& to, std::uint8_t what) {
    forget(to, what);
    if (lies_in(place, from)) [[likely]] {
      size = static_cast<std::uint8_t>(from.size());
      return;
    }
    to = {};
    rare |= what;
    seal_in_block(from, to);
  }
};
static_assert(sizeof(Slot) == 192 && offsetof(Slot, place) == 32 && kInline <= UINT8_MAX &&
              std::atomic<std::uint64_t>::is_always_lock_free);

enum class WorkerPhase : std::uint32_t {
  absent,
  starting,  // launched, initializer not yet done
  ready,     // claims tasks
  leaving,   // of its own accord: the pool closes, or it has done its share (max_tasks_per_child)
  failed,    // its initializer threw: `result` of its entry holds the exception
};

// Which task a worker claims or runs: bits 0-31 slot + 1, 0 = none; 32-63 generation.
struct Intent {
  std::uint64_t raw = 0;
  constexpr bool names_a_task() const noexcept { return static_cast<std::uint32_t>(raw) != 0; }
  constexpr std::uint32_t slot() const noexcept { return static_cast<std::uint32_t>(raw) - 1; }
  constexpr std::uint32_t generation() const noexcept { return static_cast<std::uint32_t>(raw >> 32); }
};

// What the owner sees of one worker; written by the worker, cleared by the owner between two of them.
struct alignas(128) WorkerEntry {
  std::atomic<std::uint32_t> phase;
  std::atomic<std::uint64_t> intent;  // an Intent
  // In a chunk: 1 + an item that it has begun, its first or, with limits, the one it runs; 0 = none. The first from there on without an
  // outcome is the one that it runs.
  std::atomic<std::uint64_t> item;
  std::atomic<std::uint64_t>
      since;  // CLOCK_MONOTONIC ns when the task or item with a limit of time began; 0 = none runs
  std::atomic<std::uint64_t> tasks;  // done so far
  std::atomic<std::uint32_t> bell;   // counts rings; the worker sleeps on it
  Parcel failure;                    // of the initializer
  // What is rare lies in the second line.
  std::atomic<std::uint64_t> cpu_then;  // ns of CPU time that the process had used at `since`
  std::atomic<std::uint64_t> ordered;  // the `since` of what the worker shall end itself for; written by the supervisor
};

// The workers' entries follow it.
class alignas(alignof(WorkerEntry)) TaskBoard {
 public:
  static constexpr std::uint32_t kSlotsInSegment = 2048, kSlotSegments = 16384;
  static constexpr std::uint64_t kLineInSegment = 8192, kLineSegments = 4096;
  static constexpr std::uint32_t kMostWorkers = WorkerSet::kMost, kOwner = 0xffffff;

  // `cpus`: as many workers are woken for what is posted; further ones once tasks wait for a while (more_hands).
  TaskBoard(std::uint32_t workers, std::uint32_t cpus) noexcept : workers_(workers), cpus_(cpus) {}

  Slot& slot(std::uint32_t index) noexcept {
    auto* segment = memory::at<Slot>(slots_[index / kSlotsInSegment].load(std::memory_order_acquire));
    return segment[index % kSlotsInSegment];
  }
  // The slot of an index that another process has written; null if there is none.
  Slot* try_slot(std::uint32_t index) noexcept {
    if (index >= kSlotSegments * kSlotsInSegment) [[unlikely]]
      return nullptr;
    const memory::Offset segment = slots_[index / kSlotsInSegment].load(std::memory_order_acquire);
    if (!may_be_segment(segment, sizeof(Slot) * kSlotsInSegment)) [[unlikely]]
      return nullptr;
    return memory::at<Slot>(segment) + index % kSlotsInSegment;
  }
  WorkerEntry& worker(std::uint32_t index) noexcept { return reinterpret_cast<WorkerEntry*>(this + 1)[index]; }
  std::uint32_t worker_count() const noexcept { return workers_; }

  // ---- the owner's side; callers serialise grow() and post() ----

  // Slots [first, first + kSlotsInSegment) of the next segment, all free. Throws SharedMemoryFull.
  std::uint32_t grow();
  // Puts a filled slot in line and lets the workers see it, `under_way` tasks of the owner being posted or not yet freed.
  // Throws SharedMemoryFull, the slot then being free. Says which was put in line before it, kNoTask if none was, for ring().
  std::uint32_t post(std::uint32_t index, std::uint64_t under_way);
  static constexpr std::uint32_t kNoTask = ~0u, kLarge = kNoTask - 1;
  // The slot again in line after its worker's death; as post().
  void post_again(std::uint32_t index, std::uint32_t dead_worker);
  // After a post: wakes a worker if none is looking and one sleeps. That with the lowest number: its caches are warm, and the others may
  // sleep on. Where as many as there are CPUs are awake, or those awake are quick, that is left to more_hands(). `before`: as post() said, or
  // kLarge where what was posted is a chunk of a map, which is never tiny.
  void ring(std::uint32_t before) noexcept;
  // The supervisor's: whether to call again a millisecond later. Tasks wait and workers sleep: if those awake have done few tasks
  // in the last millisecond, because tasks are long or sleep themselves, it wakes as many again. A stream of tiny tasks on more workers
  // than CPUs goes on with few. Makes up for a ring that was lost with a worker, too.
  bool more_hands(std::chrono::nanoseconds now) noexcept;
  // Before a worker's entry is used again.
  void forget_idle(std::uint32_t worker) noexcept {
    looking_.remove(worker);
    asleep_.remove(worker);
  }
  // True if it was still posted: it will never run.
  bool cancel(std::uint32_t index, std::uint32_t generation) noexcept;
  // True if it was still posted: the owner holds it now as a worker would, and finish()es it.
  bool take_back(std::uint32_t index) noexcept;
  // done or cancelled -> free, with a new generation.
  void recycle(std::uint32_t index, std::uint32_t generation) noexcept {
    slot(index).state.store(word::make(Phase::free, generation), std::memory_order_release);
  }
  // Whether some worker does not sleep (or died awake).
  bool busy() const noexcept { return awake() > 0; }
  // Whether tasks wait for a worker, as far as can be seen.
  bool pending() const noexcept;

  // Reported ends: the whole list, newest first (index + 1 each, linked by Slot::next).
  std::uint32_t take_reported() noexcept { return reported_.exchange(0, std::memory_order_acq_rel); }
  // Sleeps until something was signalled since signalled() said `seen`, or `limit` is over. signal() never blocks, and
  // makes no system call unless the supervisor sleeps.
  std::uint32_t signalled() const noexcept { return signal_.load(std::memory_order_seq_cst); }
  void wait_signal(std::uint32_t seen, std::chrono::nanoseconds limit) noexcept;
  void signal() noexcept;
  // The word that counts signals: the bell of the workers' process server.
  const std::atomic<std::uint32_t>& signal_word() const noexcept { return signal_; }

  // Frees every block: only when nobody uses the board any more.
  void free_blocks() noexcept;

  // Orders all workers to leave: when nothing is left to claim, or at once after the task in hand.
  void close(bool at_once) noexcept;

  // ---- a worker's side ----

  enum class Claim { got, leave };
  // The next task in line, claimed for worker `me`: `index` says which. Spins, then sleeps, until there is one or the
  // pool closes.
  Claim claim(std::uint32_t me, std::uint32_t& index) noexcept;
  // The result is in the slot: done, and tells who waits.
  void publish(std::uint32_t index) noexcept;

  // claimed -> done (or cancelled) by whoever may (invariant 1), and tells who waits.
  void finish(std::uint32_t index, std::uint32_t generation, Phase phase = Phase::done) noexcept;

 private:
  static bool may_be_segment(memory::Offset offset, std::size_t size) noexcept {
    return offset % 64 == 0 && memory::lies_inside(offset, size);
  }
  using Place = std::atomic<std::uint64_t>;  // bits 0-31 slot + 1, 32-63 generation; 0 = not yet
  void put_in_line(std::uint32_t index, std::uint32_t generation);
  void lengthen(std::uint64_t segment);
  const Place* place_at(std::uint64_t position) const noexcept;
  bool try_claim(std::uint32_t me, std::uint32_t& index) noexcept;
  bool nothing_to_do() const noexcept { return !pending() && !closing_.load(std::memory_order_relaxed); }
  bool look(std::uint32_t me, std::uint32_t posted_on, std::uint32_t crowd) noexcept;
  void sleep(std::uint32_t me, std::uint32_t posted_on) noexcept;
  bool ring_one() noexcept;
  bool are_quick(std::uint32_t before) noexcept;
  static constexpr std::uint32_t kOneself = kNoTask - 2;  // before what a worker rings for, who has just claimed one
  // A worker's, from when it wakes up until it sleeps again: its tasks, and when it was last seen to have done them all.
  struct Shift {
    std::chrono::nanoseconds begin{0}, end{0};
    std::uint64_t done_before = 0, done = 0;
    bool chunks = false;
  };
  void judge(const Shift& shift, std::uint64_t done) noexcept;
  void say_tiny(bool tiny) noexcept;
  std::uint32_t awake() const noexcept { return workers_ - asleep_.size(workers_); }
  bool short_of_hands() const noexcept { return asleep_.first(workers_) != workers_ && pending(); }

  std::uint32_t segments_ = 0;               // the owner's: slot segments there are
  std::uint64_t line_recycled_ = 0;          // the owner's: line segments taken back so far
  std::uint64_t tail_ = 0;                   // the owner's: the next position in line
  std::uint32_t last_ = kNoTask;             // the owner's: what was posted last
  std::atomic<std::uint64_t> done_then_{0};  // the owner's: by those awake, when are_quick() was last asked
  std::uint64_t head_then_ = 0;              // the supervisor's: when more_hands() last looked
  std::chrono::nanoseconds looked_at_{0};
  alignas(64) std::atomic<std::uint64_t> head_{0};
  // Idle workers, by what they do. Who has something to do is in neither.
  alignas(64) WorkerSet looking_;                      // will see what is posted
  alignas(64) WorkerSet asleep_;                       // have to be rung
  alignas(64) std::atomic<std::uint32_t> closing_{0};  // 1 = when nothing is left, 2 = at once
  std::atomic<std::uint32_t> tiny_{0};                 // what tasks have been of late
  const std::uint32_t workers_, cpus_;
  alignas(64) std::atomic<std::uint32_t> signal_{0};  // counts
  std::atomic<std::uint32_t> supervisor_sleeps_{0};
  std::atomic<std::uint32_t> watched_{0};  // more_hands() will be called
  std::atomic<std::uint32_t> reported_{0};
  alignas(64) std::atomic<memory::Offset> slots_[kSlotSegments]{};
  // Each with its number, so that one left from the line's last time round is known: bits 0-37 offset, 38-63 number (mod 2^26).
  std::atomic<std::uint64_t> line_[kLineSegments]{};
};

}  // namespace mp::pool
