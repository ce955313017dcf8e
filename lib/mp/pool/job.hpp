// A map over many items: one job in the arena, cut into chunks that travel as tasks, each item with a state of its own,
// so that limits, crashes and exceptions belong to one item however many share a chunk.
//
//     input (array of T, or pickled in the chunk) --> worker runs items [begin, end) --> output (array of R, or cells)
//                                                     entry.item = begin + 1 before the first, states[i] after item i
//
// Invariants:
//  1. states[i] is stored once for each outcome, by the worker that has claimed the item's chunk, or after its death by
//     the owner; when it is not `waiting`, the item's output or exception is in place.
//  2. A chunk's items are run in order, so the one that runs, or is about to, is the first that is `waiting`: nothing more need be
//     written for each. A chunk may be run again after its worker's death: from that item on.
//
// *If a process is killed*: a worker: the item it ran is charged (or tried again), the chunk goes on without it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

#include "mp/memory/ref.hpp"
#include "mp/pickle/bytes.hpp"
#include "mp/pool/limits.hpp"
#include "mp/pool/parcel.hpp"
#include "mp/pool/task_board.hpp"

namespace mp::pool {

enum class ItemState : std::uint8_t {
  waiting,
  value,
  exception,  // in the job's list of failures
  lost,       // the owner knows the error
};

// An item's pickled result.
struct Cell {
  Parcel parcel;
  std::byte place[16];
};
static_assert(sizeof(Cell) == 32);

struct Failure {
  memory::Offset next;
  std::uint64_t item;
  Parcel parcel;  // of the exception; always in a block, or empty
};

struct Job {
  std::uint64_t items;
  std::uint32_t limited;                 // items have limits
  Parcel function;                       // the callable's state, always in a block unless empty
  memory::Offset input;                  // array of T, 0 = items are pickled in the chunks
  memory::Offset output;                 // array of R, or of Cell
  std::uint8_t own_input, cells;         // whether `input` goes with the job; whether `output` is of Cells
  std::atomic<memory::Offset> failures;  // list of Failure
  Limits limits;                         // of each item
  alignas(
      64) std::atomic<std::uint32_t> progress;    // futex word: counts up when something is done while somebody sleeps
  std::atomic<std::uint32_t> attention;           // bits below: what workers look at after each item, in one load
  std::atomic<std::uint32_t> flawed;              // set before the first outcome that is no value
  static constexpr std::uint32_t kWaited = 1;     // somebody sleeps for items
  static constexpr std::uint32_t kCancelled = 2;  // chunks stop at the next item
  std::atomic<std::uint8_t>* states() noexcept { return reinterpret_cast<std::atomic<std::uint8_t>*>(this + 1); }
  bool cancelled() const noexcept { return attention.load(std::memory_order_relaxed) & kCancelled; }
  // The first item in [from, end) without an outcome; `end` if there is none.
  std::uint64_t first_waiting(std::uint64_t from, std::uint64_t end) noexcept;
};

// The item that the worker of a chunk had begun and not finished when it died; nothing where it had begun none, or damaged its task.
// `begun`: what its entry says.
std::optional<std::uint64_t> unfinished_item(const Slot& chunk, std::uint64_t begun) noexcept;

// What a chunk's arguments begin with; pickled items follow unless the job has an input array.
struct ChunkHead {
  memory::Offset job;
  std::uint64_t begin, end;
};

[[noreturn]] void refuse_array();

// The array of T at `offset`, whose first element is item 0's. Throws UnpicklingError unless the places of items [begin, end) all lie in one
// block. The items are fewer than the arena has bytes.
template <class T>
T* array_of(memory::Offset offset, std::uint64_t begin, std::uint64_t end) {
  if (begin == end) return nullptr;
  const memory::Offset first = offset + begin * sizeof(T);
  if (!memory::lies_inside(offset, 1) || end > memory::detail::capacity / sizeof(T) ||
      !memory::array_at<T>(first, end - begin))
    refuse_array();
  return memory::at<T>(offset);
}

// Wakes those who sleep for items.
void announce_progress(Job& job) noexcept;

// What a worker tells of the items it runs. A loop keeps a copy of its own: one whose address nobody has stays in registers across
// the calls of the user's function.
class ItemLog {
 public:
  ItemLog(Job& job, WorkerEntry& entry) noexcept
      : job_(&job),
        entry_(&entry),
        states_(job.states()),
        limited_(job.limited != 0) {}
  // From here on, whatever ends this process is laid to an item: the first from `item` on without an outcome.
  void begin(std::uint64_t item) const noexcept { entry_->item.store(item + 1, std::memory_order_release); }
  void start(std::uint64_t item) const {
    if (!limited_) [[likely]]
      return;
    begin(item);
    impose(job_->limits, *entry_);
  }
  // Before what is `item`'s already but not within its limits.
  void prepare(std::uint64_t item) const noexcept {
    if (!limited_) [[likely]]
      return;
    lift(*entry_);
    begin(item);
  }
  // After the last.
  void pause() const noexcept {
    if (limited_) [[unlikely]]
      lift(*entry_);
  }
  // False if the chunk shall stop.
  bool done(std::uint64_t item, ItemState state = ItemState::value) const noexcept {
    states_[item].store(static_cast<std::uint8_t>(state), std::memory_order_release);
    // Unordered with the store above on purpose: a sleeper looks again after one slice at the latest.
    if (job_->attention.load(std::memory_order_relaxed) == 0) [[likely]]
      return true;
    announce_progress(*job_);
    return !job_->cancelled();
  }
  // The exception in flight becomes the item's outcome.
  void failed(std::uint64_t item) const noexcept;

 private:
  Job* job_;
  WorkerEntry* entry_;
  std::atomic<std::uint8_t>* states_;
  bool limited_;
};

// The chunk's run as its worker drives it (in the worker).
class ChunkRun {
 public:
  // Reads the head; throws UnpicklingError if it names no job.
  explicit ChunkRun(pickle::Reader& in);
  ~ChunkRun();
  ChunkRun(const ChunkRun&) = delete;
  ChunkRun& operator=(const ChunkRun&) = delete;

  Job& job() const noexcept { return *job_; }
  std::uint64_t begin() const noexcept { return head_.begin; }
  std::uint64_t end() const noexcept { return head_.end; }
  ItemLog log() const noexcept { return {*job_, *entry_}; }
  // Throws LimitExceeded if an item's result of so many bytes is beyond its limit.
  void check_result(std::size_t bytes) const {
    if (job_->limited) [[unlikely]]
      check_output(job_->limits, bytes);
  }
  // The array of T at `offset` in which the chunk's items have their places. Throws UnpicklingError.
  template <class T>
  T* array(memory::Offset offset) const {
    return array_of<T>(offset, head_.begin, head_.end);
  }

 private:
  ChunkHead head_;
  Job* job_;
  WorkerEntry* entry_;
};

// The owner's view of a job.
memory::Ref create_job(std::uint64_t items, const Limits& limits);

// The parcel with the exception of an item in state `exception`, of a job with so many items; empty if there is none.
Parcel failure_of(const Job& job, std::uint64_t item, std::uint64_t items) noexcept;

// How many items each chunk takes, one after another: few at first, so that the workers begin while the owner still copies or
// pickles the rest, then a share of what is left that shrinks towards the end (guided).
class ChunkSizes {
 public:
  explicit ChunkSizes(unsigned workers) noexcept : workers_(workers) {}
  std::uint64_t next(std::uint64_t left) noexcept;

 private:
  const unsigned workers_;
  std::uint64_t most_ = 512;  // doubles with each chunk that takes so many
};

}  // namespace mp::pool
