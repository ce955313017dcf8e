#include "mp/channel/stream.hpp"

#include "mp/errors.hpp"
#include "mp/os/spin.hpp"

namespace mp::channel {
namespace {

[[noreturn]] void damaged(const char* what) {
  throw UnpicklingError(std::string("a queue's or pipe's shared memory is damaged: ") + what);
}

bool is_segment(Offset offset) noexcept {
  return offset != 0 && offset % kSegment == 0 && memory::block_size(offset) >= kSegment;
}
// Of waiting for messages and for room.
os::Spinner& spinner() noexcept {
  static thread_local os::Spinner spin;
  return spin;
}

// `other_side`: the CPU that who makes it ready was last seen on.
template <class Ready>
bool wait(sync::EventWord& word, const os::Deadline& deadline, std::uint32_t other_side, Ready ready) noexcept {
  if (!deadline.never() && deadline.passed()) return ready();
  if (spinner()(ready, other_side)) return true;
  if (os::beside(other_side)) {
    const std::uint32_t seen = word.prepare_beside();
    if (ready()) return true;
    if (word.wait(seen, deadline, os::kBrief) != os::Woken::timed_out) return ready() || !deadline.passed();
  }
  std::uint32_t seen = word.prepare();
  if (ready()) return true;
  word.wait(seen, deadline);
  return ready() || !deadline.passed();
}

}  // namespace

Stream::Stream(Options options)
    : max_bytes_(options.bytes),
      max_items_(options.items == 0 || options.items > Place::kCountMask ? Place::kCountMask : options.items),
      track_takers_(options.track_takers) {
  // 22 bits of a Place name the segment.
  if (memory::detail::capacity > std::uint64_t{1} << 38) throw Error("the arena is larger than a stream can address");
}

std::size_t Stream::size() const noexcept {
  Place head{head_.load(std::memory_order_acquire)}, tail{tail_.load(std::memory_order_acquire)};
  return distance(head, tail);
}

// Whether a message begins at `place`, where consumers stand or stood.
bool Stream::is_there(Place place) const noexcept {
  if (place.segment() != 0 && !is_inside(place.segment())) [[unlikely]]
    return true;  // who takes finds the damage
  const std::uint64_t record =
      place.segment() == 0
          ? make_record(Form::link, 0, 0)
          : record_at(memory::at<std::byte>(place.segment()) + place.position()).load(std::memory_order_acquire);
  if (record == kNothing) return false;
  return Next{place, record, nullptr, 0}.form() != Form::link ||
         Place{tail_.load(std::memory_order_acquire)}.segment() != place.segment();
}

bool Stream::empty() const noexcept {
  for (std::uint64_t head = head_.load(std::memory_order_acquire);;) {
    const bool there = is_there({head});
    // Where consumers have gone on meanwhile, the place may mean nothing any more.
    std::atomic_thread_fence(std::memory_order_acquire);
    const std::uint64_t now = head_.load(std::memory_order_acquire);
    if (now == head) return !there;
    head = now;
  }
}

bool Stream::has_room_outside() const noexcept {
  Place head{head_.load(std::memory_order_acquire)};
  std::uint64_t got = got_bytes_[head.count() % 2].load(std::memory_order_relaxed);
  return has_room({tail_.load(std::memory_order_acquire)}, head, got);
}

bool Stream::full() const noexcept { return !has_room_outside(); }

// ---- producers -----------------------------------------------------------------------------------------------------

Put Stream::try_put(std::span<const std::byte> payload, std::span<const Offset> carried) {
  const std::size_t size = payload.size(), behind = carried.size_bytes();
  return append(make_record(Form::small, size, carried.size()), round8(size) + behind, size,
                [&](std::byte* to) noexcept {
                  if (size != 0) std::memcpy(to, payload.data(), size);
                  if (behind != 0) std::memcpy(to + round8(size), carried.data(), behind);
                });
}

Put Stream::try_put(const memory::Ref& blob) {
  const Offset object = blob.offset();
  return append(make_record(Form::blob, sizeof object, 0), sizeof object, blob.as<Blob>().size,
                [&](std::byte* to) noexcept {
                  memory::retain(object);
                  std::memcpy(to, &object, sizeof object);
                });
}

// Room for a record of `need` bytes and a link behind it; `tail` is moved to a new segment where this one is full.
std::byte* Stream::make_room_slowly(Place& tail, std::size_t need) {
  const Offset old = tail.segment();
  if (old != 0) {
    if (!is_inside(old)) damaged("no segment");
    if (tail.position() + need + kLink <= kSegment) return memory::at<std::byte>(old) + tail.position();
    if (tail.position() + kLink > kSegment) damaged("no room for a link");
  }
  // It stays in `spare_` until tail has moved into it, so that it is somebody's whenever this process dies.
  Offset fresh = spare_.load(std::memory_order_acquire);
  if (!is_segment(fresh)) {
    if (fresh != 0) spare_.store(0, std::memory_order_relaxed);  // damaged
    memory::NewBlock block(kSegment, kSegment);
    // A consumer may have put one there meanwhile: then there are two for a moment, and this one goes.
    fresh = block.hand_out();
    Offset other = 0;
    if (!spare_.compare_exchange_strong(other, fresh, std::memory_order_acq_rel)) {
      memory::deallocate(fresh);
      fresh = other;
    }
  }
  tail = make_place(fresh, 0, tail.count());
  return memory::at<std::byte>(fresh);
}

// Consumers do not follow it before tail has moved on, too.
void Stream::link_to(Place from, Offset segment) noexcept {
  if (from.segment() == 0) return first_.store(segment, std::memory_order_relaxed);
  std::byte* link = memory::at<std::byte>(from.segment()) + from.position();
  std::memcpy(link + kRecordHead, &segment, sizeof segment);
  record_at(link).store(make_record(Form::link, sizeof segment, 0), std::memory_order_release);
}

// After a producer's death: tail may be one committed record behind, or stand at a link that was not committed.
void Stream::mend_tail() noexcept {
  Taking taking(*this);  // consumers stand still
  const Place tail{tail_.load(std::memory_order_relaxed)}, head{head_.load(std::memory_order_relaxed)};
  if (tail.segment() != 0 && tail.segment() == spare_.load(std::memory_order_relaxed))
    spare_.store(0, std::memory_order_relaxed);
  if (tail.segment() == 0 || !is_segment(tail.segment())) return;
  if (head.count() == ((tail.count() + 1) & Place::kCountMask)) {  // taken already
    put_bytes_[head.count() % 2].store(got_bytes_[head.count() % 2].load(std::memory_order_relaxed),
                                       std::memory_order_relaxed);
    return tail_.store(head.raw, std::memory_order_release);
  }
  if (tail.position() + kLink > kSegment) return;  // damaged: the next put says so
  const std::byte* at = memory::at<std::byte>(tail.segment()) + tail.position();
  const Next last{tail, record_at(at).load(std::memory_order_relaxed), at + kRecordHead, 0};
  if (last.record == kNothing) return;
  if (last.form() == Form::link) return record_at(at).store(kNothing, std::memory_order_release);
  if (tail.position() + last.length() + kLink > kSegment) return;
  std::uint64_t weight = last.size();
  if (last.form() == Form::blob) {
    Offset object;
    std::memcpy(&object, last.payload, sizeof object);
    weight = is_blob(object) ? memory::at<Blob>(object)->size : 0;
  }
  const std::uint32_t count = tail.count() + 1;
  put_bytes_[count % 2].store(put_bytes_[tail.count() % 2].load(std::memory_order_relaxed) + weight,
                              std::memory_order_relaxed);
  tail_.store(make_place(tail.segment(), tail.position() + last.length(), count).raw, std::memory_order_release);
}

void Stream::shut_down() noexcept {
  {
    // Under the lock, so that no put that was let in commits after this returns.
    Putting putting(*this);
    flags_.fetch_or(1, std::memory_order_release);
  }
  wake_all();
}

bool Stream::wait_writable(const os::Deadline& deadline, const std::atomic<std::uint32_t>& stop) noexcept {
  return wait(writable_, deadline, os::kAnyCpu,
              [&] { return has_room_outside() || (stop.load(std::memory_order_acquire) & 1); });
}

// ---- consumers -----------------------------------------------------------------------------------------------------

// Finds the next record, past a link if need be. False if there is none. What it says is checked against its segment.
bool Stream::find_next(Next& next) {
  Place head{head_.load(std::memory_order_relaxed)};
  next.left = 0;
  if (head.segment() == 0) [[unlikely]] {
    if (!is_there(head)) return false;
    head = make_place(first_.load(std::memory_order_relaxed), 0, head.count());
  }
  for (;;) {
    if (!is_inside(head.segment()) || head.position() + kRecordHead > kSegment) [[unlikely]]
      damaged("no segment");
    const std::byte* at = memory::at<std::byte>(head.segment()) + head.position();
    next.record = record_at(at).load(std::memory_order_acquire);
    if (next.record == kNothing) return false;
    next.head = head;
    next.payload = at + kRecordHead;
    if (next.record >> 56 != 0x6d) [[unlikely]]
      damaged("no record");
    if (head.position() + next.length() > kSegment) [[unlikely]]
      damaged("a record is too long");
    if (next.form() != Form::link) [[likely]]
      return true;
    if (!is_there(head)) return false;
    Offset beyond;
    std::memcpy(&beyond, next.payload, sizeof beyond);
    if (next.left != 0 || !is_segment(beyond)) damaged("a link that leads nowhere");
    next.left = head.segment();
    head = make_place(beyond, 0, head.count());
  }
}

Got Stream::try_take(Parcel& parcel) {
  parcel.clear();
  {
    Taking taking(*this);
    Next next;
    if (!find_next(next)) return Got::empty;
    if (next.form() == Form::small) {
      const std::size_t length = next.length() - kRecordHead;
      if (length > kLargestSmall) damaged("a record is too long");
      std::memcpy(parcel.small_, next.payload, length);
      if (track_takers_) note_taker(next.head.count());
      commit_take(next, next.size());
      parcel.payload_ = {parcel.small_, next.size()};
      parcel.carried_ = {reinterpret_cast<const Offset*>(parcel.small_ + round8(next.size())), next.carried()};
    } else {
      Offset object;
      if (next.form() != Form::blob || next.size() != sizeof object || next.carried() != 0)
        damaged("an unknown record");
      std::memcpy(&object, next.payload, sizeof object);
      if (!is_blob(object)) damaged("a message that is not there");
      // Held by this process before the message is taken, so that a kill while it is being read leaks nothing.
      parcel.blob_ = memory::Ref(object);
      if (track_takers_) note_taker(next.head.count());
      Blob& blob = parcel.blob_.as<Blob>();
      commit_take(next, blob.size);
      memory::release(object);  // the message's count, at once: a kill in between leaves it
      parcel.payload_ = {blob.payload(), blob.size};
      parcel.carried_ = {blob.carried_offsets(), blob.carried};
    }
  }
  tell_writers();
  return Got::done;
}

// The caller is about to take message number `count`. Throws SharedMemoryFull.
void Stream::note_taker(std::uint32_t count) {
  const memory::Tag me = memory::self();
  take_intent_.store(0, std::memory_order_release);
  taken_before_ = takers_.count_of(me);
  take_intent_.store(me | 1ull << 31 | std::uint64_t{count} << 32, std::memory_order_release);
  takers_.add(me);
}

// After a consumer's death.
void Stream::undo_half_take() noexcept {
  if (!track_takers_) return;
  const std::uint64_t intent = take_intent_.exchange(0, std::memory_order_acquire);
  if (!(intent >> 31 & 1) || intent >> 32 != Place{head_.load(std::memory_order_relaxed)}.count()) return;
  const auto taker = static_cast<memory::Tag>(intent & 0x7fffffff);
  if (takers_.count_of(taker) > taken_before_) takers_.take(taker);
}

bool Stream::finish_one() noexcept {
  Taking taking(*this);
  return takers_.take(memory::self()) == 1 || takers_.take_any(1) == 1;
}

std::uint64_t Stream::finish_for_the_dead() noexcept {
  Taking taking(*this);
  return takers_.drop_dead();
}

// One segment is kept for the producers, so that a steady stream allocates nothing.
void Stream::recycle(Offset segment) noexcept {
  Offset none = 0;
  if (!spare_.compare_exchange_strong(none, segment, std::memory_order_acq_rel) && is_segment(segment))
    memory::try_deallocate(segment);
}

void Stream::tell_writers_now() noexcept {
  if (max_items_ == Place::kCountMask && max_bytes_ == 0) return;
  // Not for each message that leaves a full stream, but when half of it is free: sleepers look by themselves after one slice.
  Place tail{tail_.load(std::memory_order_acquire)}, head{head_.load(std::memory_order_relaxed)};
  auto bytes = static_cast<std::int64_t>(put_bytes_[tail.count() % 2].load(std::memory_order_relaxed) -
                                         got_bytes_[head.count() % 2].load(std::memory_order_relaxed));
  if (distance(head, tail) > max_items_ / 2 || (max_bytes_ != 0 && bytes > static_cast<std::int64_t>(max_bytes_ / 2)))
    return;
  if (max_items_ == 1) writable_.notify_one();
  else writable_.notify_all();
}

bool Stream::wait_readable(const os::Deadline& deadline, const std::atomic<std::uint32_t>& stop) noexcept {
  return wait(readable_, deadline, put_on_.load(std::memory_order_relaxed),
              [&] { return !empty() || (stop.load(std::memory_order_acquire) & 1); });
}

[[gnu::hot]] bool Stream::nap(const std::atomic<std::uint32_t>& stop) noexcept {
  if (!spinner().sleeps_at_once(put_on_.load(std::memory_order_relaxed))) return false;
  const std::uint32_t seen = readable_.prepare_beside();
  // What a plain look shows is enough here; a link, or a place that is damaged, is for who takes.
  const Place head{head_.load(std::memory_order_relaxed)};
  if (!is_inside(head.segment())) [[unlikely]]
    return false;
  const auto* at = memory::at<std::byte>(head.segment()) + head.position();
  if (record_at(at).load(std::memory_order_acquire) != kNothing || (stop.load(std::memory_order_acquire) & 1))
    return true;
  return readable_.wait(seen, os::Deadline(), os::kBrief) != os::Woken::timed_out;
}

void Stream::wake_all() noexcept {
  readable_.notify_all();
  watch_.notify_all();
  writable_.notify_all();
}

std::size_t Stream::discard() noexcept {
  std::size_t count = 0;
  try {
    for (Parcel parcel; try_take(parcel) == Got::done;) ++count;
  } catch (const std::exception&) {
    // Damaged memory is leaked rather than touched again.
  }
  return count;
}

void Stream::destroy() noexcept {
  discard();
  takers_.free_blocks();
  const Offset spare = spare_.exchange(0, std::memory_order_acq_rel);
  const Offset from = Place{head_.exchange(0, std::memory_order_acq_rel)}.segment(),
               first = first_.exchange(0, std::memory_order_acq_rel);
  const Offset last = from ? from : first;
  if (is_segment(last)) memory::try_deallocate(last);
  // The same: of a producer who died on his way into it.
  if (spare != last && is_segment(spare)) memory::try_deallocate(spare);
}

}  // namespace mp::channel
