// A stream of messages in shared memory, any number of producers and consumers in any process: what queues and pipes are
// made of. Python has a pipe of the kernel and a feeder thread here; this has neither, nor a system call while both sides are awake.
//
//   producers --lock--> tail                                 head <--lock-- consumers
//                        |                                    |
//     segment: [record][record][record][link]-->[record]...[record][link]-->   (64 KiB each, a spare one is kept)
//
// A message up to kLargestSmall bytes lies in its record; a larger one in an arena object of its own (Blob), and only
// the name of it travels.
//
// Consumers look at the word before the next record, never at a producer's: a message that is waited for costs the cache line that it
// lies in and no other.
//
// Invariants:
//  1. `tail` and `head` are Places. From head on there are complete records, then a word 0: what is next is not there yet.
//     Tail stands there, or, while a put is being committed, one record before.
//  2. Only who holds the producers' lock writes tail and beyond it; only who holds the consumers' lock writes head and
//     frees segments behind it. Behind each record there is room for a link.
//  3. A link (and `first_`, the link to the first segment) means something once tail has left the segment that it stands in.
//  4. A record owns one count of its Blob and of each object that it carries.
//  5. Where takers are tracked, each message is in the stream or in `takers_` from put to finish_one(); on the way it may be in both,
//     which take_intent_ tells: who is taking which message, and what the ledger said before.
//  6. The bytes put so far stand in put_bytes_[tail's count % 2], those taken in got_bytes_[head's count % 2].
// Commit points: put = the store of the record's word, or, into a new segment, of tail; take = the store of head; finish = the store of the
// taker's entry. Who takes a lock over from a dead owner repairs: tail, if that producer had committed and not moved it on; the entry of
// a tracked taker that died before its take.
//
// *Thread and process safety*: everything, from any thread of any process of the family.
// *Memory ordering*: what a thread did before a put is visible to who takes the message.
// *If a process is killed*: before its commit: nothing has happened; a consumer after its commit: that message is lost with it.
// In a few instructions around a commit, one segment, Blob or count may leak. Who waits for its lock goes on after one slice.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "mp/channel/parcel.hpp"
#include "mp/memory/arena.hpp"
#include "mp/memory/ref.hpp"
#include "mp/os/clock.hpp"
#include "mp/os/cpu.hpp"
#include "mp/os/fence.hpp"
#include "mp/sync/event_word.hpp"
#include "mp/sync/ledger.hpp"
#include "mp/sync/mutex.hpp"

namespace mp::channel {

inline constexpr std::size_t kSegment = 64 * 1024;

// Where producers or consumers stand: bits 0-12 position in the segment / 8, bits 13-34 offset of the segment / 64 KiB
// (0 = none yet), bits 35-63 how many messages so far (mod 2^29).
struct Place {
  static constexpr std::uint32_t kCountMask = (1u << 29) - 1;
  std::uint64_t raw = 0;
  constexpr std::size_t position() const noexcept { return (raw & 0x1fff) * 8; }
  constexpr Offset segment() const noexcept { return (raw >> 13 & 0x3fffff) * kSegment; }
  constexpr std::uint32_t count() const noexcept { return static_cast<std::uint32_t>(raw >> 35); }
  friend constexpr bool operator==(Place, Place) noexcept = default;
};
constexpr Place make_place(Offset segment, std::size_t position, std::uint32_t count) noexcept {
  return {position / 8 | segment / kSegment << 13 | std::uint64_t{count & Place::kCountMask} << 35};
}
// How many messages from one to the other. Tail may be one behind for a moment: none then.
constexpr std::uint32_t distance(Place head, Place tail) noexcept {
  const std::uint32_t many = (tail.count() - head.count()) & Place::kCountMask;
  return many == Place::kCountMask ? 0 : many;
}
static_assert(make_place(3 * kSegment, kSegment - 8, 7).position() == kSegment - 8 &&
              make_place(3 * kSegment, kSegment - 8, 7).segment() == 3 * kSegment &&
              make_place(3 * kSegment, 8, 7).count() == 7);

// The word before a record's payload: bits 0-15 bytes of payload, 16-31 objects carried (their offsets follow the payload, from the next
// multiple of 8 on), 32-47 the CPU it was put on, 48-55 form, 56-63 a mark that garbage seldom has. 0: nothing is there yet.
enum class Form : std::uint8_t { small = 1, blob = 2, link = 3 };
inline constexpr std::uint64_t kNothing = 0, kCpuMask = 0xffffull << 32;
constexpr std::uint64_t make_record(Form form, std::size_t size, std::size_t carried) noexcept {
  return size | std::uint64_t{carried} << 16 | std::uint64_t{static_cast<std::uint8_t>(form)} << 48 | 0x6dull << 56;
}
inline std::atomic_ref<std::uint64_t> record_at(const std::byte* place) noexcept {
  return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(const_cast<std::byte*>(place)));
}
inline constexpr std::size_t kRecordHead = 8, kLink = kRecordHead + 8;
constexpr std::size_t round8(std::size_t n) noexcept { return (n + 7) & ~std::size_t{7}; }

// GCC copies large sizes known to it by `rep movs`, which takes twice as long as the C library's vectors where the bytes lie in another
// core's cache.
template <std::size_t bytes>
inline void copy(void* to, const void* from) noexcept {
  std::size_t size = bytes;
  if constexpr (bytes > 256) asm("" : "+r"(size));
  std::memcpy(to, from, size);
}

// unheard: done, and nobody sleeps any more who had been waiting for it: gone on meanwhile, or dead.
enum class Put : std::uint8_t { done, unheard, full, shut_down };
constexpr bool is_in(Put put) noexcept { return put <= Put::unheard; }
enum class Got : std::uint8_t { done, empty, other };

class Stream {
 public:
  // A put waits while `items` messages, or messages of `bytes` bytes, are in flight; 0 = no limit. `track_takers`: remember who
  // took how many and has not finished them.
  struct Options {
    std::uint32_t items = 0;
    std::uint64_t bytes = 0;
    bool track_takers = false;
  };
  explicit Stream(Options options);

  // Appends a message of at most kLargestSmall bytes, carried offsets included; the stream takes over a count of each
  // object carried. Or one in a Blob, of which it takes a count itself. Throws SharedMemoryFull, and nothing has happened.
  Put try_put(std::span<const std::byte> payload, std::span<const Offset> carried);
  Put try_put(const memory::Ref& blob);
  // The same for a size known to the compiler.
  template <std::size_t bytes>
  Put try_put_flat(const void* payload) {
    return append(make_record(Form::small, bytes, 0), round8(bytes), bytes,
                  [=](std::byte* to) noexcept { copy<bytes>(to, payload); });
  }

  // Takes the next message. Throws UnpicklingError if the memory holds no such thing, SharedMemoryFull; then nothing was taken.
  Got try_take(Parcel& parcel);
  // Takes it only if it is of so many bytes, small and carries nothing; Got::other if there is another one.
  template <std::size_t bytes>
  Got try_take_flat(void* payload);

  bool empty() const noexcept;
  std::size_t size() const noexcept;
  bool full() const noexcept;

  // No more puts; what is there can still be taken.
  void shut_down() noexcept;
  bool is_shut_down() const noexcept { return flags_.load(std::memory_order_acquire) & 1; }
  // Bit 0: shut down. To be passed to wait_*().
  const std::atomic<std::uint32_t>& flags() const noexcept { return flags_; }

  // Returns when there may be a message (room), bit 0 of `stop` is set, or after one slice at the latest. False once
  // `deadline` has passed and nothing of the kind is so.
  bool wait_readable(const os::Deadline& deadline, const std::atomic<std::uint32_t>& stop) noexcept;
  // The short way there of who found nothing and has nothing else to look at: sleeps, a fifth of a slice at most, if whoever put the last
  // message did so on the caller's own CPU. False where it did not sleep, or in vain: then wait_readable().
  bool nap(const std::atomic<std::uint32_t>& stop) noexcept;
  // Whether somebody may sleep until there is a message.
  bool is_awaited() const noexcept { return readable_.word().load(std::memory_order_relaxed) & 1; }
  bool wait_writable(const os::Deadline& deadline, const std::atomic<std::uint32_t>& stop) noexcept;
  // Everyone who waits looks again.
  void wake_all() noexcept;
  // Notified whenever something comes or wake_all() is called: for those who look but do not take.
  sync::EventWord& watch() noexcept { return watch_; }

  // With track_takers: one message that was taken (by this process if it has one, else by any) is finished. False if there is none.
  bool finish_one() noexcept;
  // Whether everything that was put has been taken and finished.
  bool all_finished() const noexcept { return empty() && takers_.sum() == 0; }
  // Somebody who died with messages taken and not finished: asks the kernel, 5 us a taker.
  bool has_dead_taker() const noexcept { return takers_.dead_holder() != memory::kNobody; }
  // Counts what the dead had taken as finished; how many that was.
  std::uint64_t finish_for_the_dead() noexcept;

  // Takes and drops everything; returns how many.
  std::size_t discard() noexcept;
  // Before the memory goes: drops everything and frees what is the stream's.
  void destroy() noexcept;

 private:
  friend struct StreamDamage;  // tests/fuzz: what another process may have written here
  class Putting {
   public:
    explicit Putting(Stream& stream) noexcept : stream_(stream) {
      if (stream.put_lock_.lock()) [[unlikely]]
        stream.mend_tail();
    }
    ~Putting() { stream_.put_lock_.unlock(); }
    Putting(const Putting&) = delete;
    Putting& operator=(const Putting&) = delete;

   private:
    Stream& stream_;
  };
  class Taking {
   public:
    explicit Taking(Stream& stream) noexcept : stream_(stream) {
      if (stream.take_lock_.lock()) [[unlikely]]
        stream.undo_half_take();
    }
    ~Taking() { stream_.take_lock_.unlock(); }
    Taking(const Taking&) = delete;
    Taking& operator=(const Taking&) = delete;

   private:
    Stream& stream_;
  };
  // The next record, as found under the consumers' lock.
  struct Next {
    Place head;  // where it begins
    std::uint64_t record;
    const std::byte* payload;
    Offset left;  // a segment that is done with once this is taken
    Form form() const noexcept { return static_cast<Form>(record >> 48 & 0xff); }
    std::size_t size() const noexcept { return record & 0xffff; }
    std::size_t carried() const noexcept { return record >> 16 & 0xffff; }
    std::size_t length() const noexcept { return kRecordHead + round8(size()) + carried() * sizeof(Offset); }
  };

  template <class Fill>
  Put append(std::uint64_t record, std::size_t body, std::uint64_t weight, Fill fill);
  std::byte* make_room(Place& tail, std::size_t need) {
    if (is_inside(tail.segment()) && tail.position() + need + kLink <= kSegment) [[likely]]
      return memory::at<std::byte>(tail.segment()) + tail.position();
    return make_room_slowly(tail, need);
  }
  std::byte* make_room_slowly(Place& tail, std::size_t need);
  // What keeps a damaged place from leading out of the arena. The arena's own word on the segment is asked for where one is entered or
  // freed: its tables are cache lines that a message has no other need of.
  static bool is_inside(Offset segment) noexcept { return memory::lies_inside(segment, kSegment); }
  void link_to(Place from, Offset segment) noexcept;
  void mend_tail() noexcept;
  bool is_there(Place place) const noexcept;
  bool has_room(Place tail, Place head, std::uint64_t got_bytes) const noexcept;
  bool has_room_now(Place tail) noexcept;
  bool find_next(Next& next);
  void note_taker(std::uint32_t count);
  void undo_half_take() noexcept;
  void commit_take(const Next& next, std::uint64_t weight) noexcept {
    commit_take(next.head, next.record, next.length(), weight);
    if (next.left) [[unlikely]]
      recycle(next.left);
  }
  void commit_take(Place head, std::uint64_t record, std::size_t length, std::uint64_t weight) noexcept;
  Put tell_readers() noexcept;
  void tell_writers() noexcept {
    os::light_fence();
    if (writable_.word().load(std::memory_order_relaxed) & 1) [[unlikely]]
      tell_writers_now();
  }
  void tell_writers_now() noexcept;
  bool has_room_outside() const noexcept;
  void recycle(Offset segment) noexcept;

  // Read by all, seldom written.
  alignas(128) std::uint64_t max_bytes_;
  std::uint32_t max_items_;
  bool track_takers_;
  std::atomic<std::uint32_t> flags_{0};
  sync::EventWord readable_, watch_, writable_;
  std::atomic<Offset> first_{0};  // where reading begins
  std::atomic<Offset> spare_{0};  // a free segment, or 0
  // Producers'.
  alignas(128) sync::Mutex put_lock_;
  std::atomic<std::uint64_t> tail_{0};
  std::uint64_t seen_head_ = 0, seen_got_bytes_ = 0;  // consumers' words when last looked at
  std::atomic<std::uint64_t> put_bytes_[2] = {};
  // Consumers'.
  alignas(128) sync::Mutex take_lock_;
  std::atomic<std::uint64_t> head_{0};
  std::atomic<std::uint64_t> got_bytes_[2] = {};
  std::atomic<std::uint32_t> put_on_{os::kAnyCpu};  // the CPU that the last message taken was put on
  std::uint32_t taken_before_ = 0;                  // the taker's entry before
  std::atomic<std::uint64_t> take_intent_{0};       // bits 0-30 taker, 31 valid, 32-60 number of the message
  sync::Ledger takers_;
};
static_assert(sizeof(Stream) == 384 && std::atomic<std::uint64_t>::is_always_lock_free);

// ---- the way of a small message ------------------------------------------------------------------------------------

inline bool Stream::has_room(Place tail, Place head, std::uint64_t got_bytes) const noexcept {
  if (distance(head, tail) >= max_items_) return false;
  return max_bytes_ == 0 || put_bytes_[tail.count() % 2].load(std::memory_order_relaxed) - got_bytes < max_bytes_;
}

inline bool Stream::has_room_now(Place tail) noexcept {
  if (has_room(tail, {seen_head_}, seen_got_bytes_)) [[likely]]
    return true;
  seen_head_ = head_.load(std::memory_order_acquire);
  seen_got_bytes_ = got_bytes_[Place{seen_head_}.count() % 2].load(std::memory_order_relaxed);
  return has_room(tail, {seen_head_}, seen_got_bytes_);
}

inline Put Stream::tell_readers() noexcept {
  Put put = Put::done;
  if (!readable_.notify_one()) [[unlikely]]
    put = Put::unheard;
  if (watch_.word().load(std::memory_order_relaxed) & 1) [[unlikely]]
    watch_.notify_all();
  return put;
}

template <class Fill>
[[gnu::hot]] Put Stream::append(std::uint64_t record, std::size_t body, std::uint64_t weight, Fill fill) {
  {
    Putting putting(*this);
    if (is_shut_down()) [[unlikely]]
      return Put::shut_down;
    const Place before{tail_.load(std::memory_order_relaxed)};
    if (!has_room_now(before)) [[unlikely]]
      return Put::full;
    Place tail = before;
    std::byte* place = make_room(tail, kRecordHead + body);
    fill(place + kRecordHead);
    record_at(place + kRecordHead + body).store(kNothing, std::memory_order_relaxed);
    std::uint32_t count = tail.count();
    if (max_bytes_ != 0) {
      std::uint64_t bytes = put_bytes_[count % 2].load(std::memory_order_relaxed) + weight;
      put_bytes_[(count + 1) % 2].store(bytes, std::memory_order_relaxed);
    }
    record |= std::uint64_t{os::this_cpu()} << 32 & kCpuMask;
    record_at(place).store(record, std::memory_order_release);  // the commit point
    if (tail.segment() != before.segment()) [[unlikely]]
      link_to(before, tail.segment());
    Place after = make_place(tail.segment(), tail.position() + kRecordHead + body, count + 1);
    tail_.store(after.raw, std::memory_order_release);  // in a new segment, the commit point
    if (tail.segment() != before.segment()) [[unlikely]]
      spare_.store(0, std::memory_order_release);
  }
  return tell_readers();
}

inline void Stream::commit_take(Place head, std::uint64_t record, std::size_t length, std::uint64_t weight) noexcept {
  std::uint32_t count = head.count();
  if (max_bytes_ != 0) {
    std::uint64_t bytes = got_bytes_[count % 2].load(std::memory_order_relaxed) + weight;
    got_bytes_[(count + 1) % 2].store(bytes, std::memory_order_relaxed);
  }
  put_on_.store(record >> 32 & 0xffff, std::memory_order_relaxed);
  Place after = make_place(head.segment(), head.position() + length, count + 1);
  head_.store(after.raw, std::memory_order_release);  // the commit point
}

template <std::size_t bytes>
[[gnu::hot]] Got Stream::try_take_flat(void* payload) {
  constexpr std::uint64_t kWanted = make_record(Form::small, bytes, 0);
  constexpr std::size_t kLength = kRecordHead + round8(bytes);
  {
    Taking taking(*this);
    const Place head{head_.load(std::memory_order_relaxed)};
    const bool fits = is_inside(head.segment()) && head.position() <= kSegment - kLength;
    const std::byte* at = memory::at<std::byte>(head.segment()) + head.position();
    const std::uint64_t record = fits ? record_at(at).load(std::memory_order_acquire) : kNothing;
    if (fits && (record & ~kCpuMask) == kWanted) [[likely]] {
      copy<bytes>(payload, at + kRecordHead);
      if (track_takers_) [[unlikely]]
        note_taker(head.count());
      commit_take(head, record, kLength, bytes);
    } else {
      if (fits && record == kNothing) return Got::empty;
      Next next;
      if (!find_next(next)) return Got::empty;
      if ((next.record & ~kCpuMask) != kWanted) return Got::other;
      std::memcpy(payload, next.payload, bytes);
      if (track_takers_) note_taker(next.head.count());
      commit_take(next, bytes);
    }
  }
  tell_writers();
  return Got::done;
}

}  // namespace mp::channel
