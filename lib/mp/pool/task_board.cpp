#include "mp/pool/task_board.hpp"

#include <algorithm>
#include <bit>

#include "mp/errors.hpp"
#include "mp/memory/ref.hpp"
#include "mp/os/clock.hpp"
#include "mp/os/cpu.hpp"
#include "mp/os/fence.hpp"
#include "mp/os/futex.hpp"
#include "mp/os/mapping.hpp"
#include "mp/os/spin.hpp"

namespace mp::pool {
namespace {

// The futex word of a slot: the low half of its state.
const std::atomic<std::uint32_t>& low_half(const std::atomic<std::uint64_t>& state) noexcept {
  static_assert(std::endian::native == std::endian::little);
  return reinterpret_cast<const std::atomic<std::uint32_t>&>(state);
}

// An idle worker's sleep has no need of slices: a lost bell is rung again by the supervisor, and the tether ends it with
// its pool. Looking once in a long while costs nothing.
constexpr std::chrono::nanoseconds kIdle = std::chrono::seconds(60);

// Who does so many tasks in a moment is kept busy by tiny ones: the waking of another would cost more than it does.
constexpr std::chrono::nanoseconds kMoment = std::chrono::milliseconds(1);
constexpr std::uint32_t kManyTasks = 20;

// The same while a CPU is free for another: tiny then means less than this a task. A worker says so when it has nothing more to do and has
// done a few in a row; longer ones, by far, say the contrary.
constexpr std::chrono::nanoseconds kTinyTask{500}, kLongTask = std::chrono::microseconds(10);
constexpr std::uint32_t kFewTasks = 4;

// Pauses, of 15 to 50 ns each, for eight tasks under way.
constexpr std::uint32_t kGather = 4;

// What stands for the state where a place in line names no slot: no worker claims it.
constexpr std::uint64_t kNoSlot = word::make(Phase::free, 0);

constexpr unsigned kOffsetBits = 38;
constexpr std::uint64_t kOffsetMask = (std::uint64_t{1} << kOffsetBits) - 1,
                        kNumberMask = ~std::uint64_t{0} >> kOffsetBits;

}  // namespace

std::uint32_t TaskBoard::grow() {
  if (segments_ == kSlotSegments) throw Error("a pool holds at most 33 million tasks at a time");
  memory::NewBlock block(sizeof(Slot) * kSlotsInSegment, 64);
  os::map_to_write(memory::at<void>(block.offset()), sizeof(Slot) * kSlotsInSegment);
  for (std::uint32_t i = 0; i < kSlotsInSegment; ++i) new (memory::at<Slot>(block.offset()) + i) Slot{};
  slots_[segments_].store(block.hand_out(), std::memory_order_release);
  return segments_++ * kSlotsInSegment;
}

// A new segment of the line, or one that all workers have passed.
void TaskBoard::lengthen(std::uint64_t segment) {
  auto& entry = line_[segment % kLineSegments];
  const std::uint64_t passed = head_.load(std::memory_order_acquire) / kLineInSegment;
  memory::Offset block;
  if (line_recycled_ < passed) {
    block = line_[line_recycled_++ % kLineSegments].load(std::memory_order_relaxed) & kOffsetMask;
  } else {
    if (segment - line_recycled_ >= kLineSegments) throw Error("a pool holds at most 33 million waiting tasks");
    block = memory::allocate(kLineInSegment * sizeof(Place), 64);
  }
  auto* places = memory::at<Place>(block);
  for (std::uint64_t i = 0; i < kLineInSegment; ++i) new (places + i) Place(0);
  entry.store(block | segment << kOffsetBits, std::memory_order_release);
}

[[gnu::hot]] void TaskBoard::put_in_line(std::uint32_t index, std::uint32_t generation) {
  if (tail_ % kLineInSegment == 0) [[unlikely]]
    lengthen(tail_ / kLineInSegment);
  auto* place = const_cast<Place*>(place_at(tail_));
  place->store(std::uint64_t{generation} << 32 | (index + 1), std::memory_order_release);  // the commit point
  ++tail_;
}

[[gnu::hot]] const TaskBoard::Place* TaskBoard::place_at(std::uint64_t position) const noexcept {
  const std::uint64_t segment = position / kLineInSegment;
  const std::uint64_t entry = line_[segment % kLineSegments].load(std::memory_order_acquire);
  if (entry == 0 || entry >> kOffsetBits != (segment & kNumberMask)) return nullptr;
  if (!may_be_segment(entry & kOffsetMask, kLineInSegment * sizeof(Place))) [[unlikely]]
    return nullptr;
  return memory::at<Place>(entry & kOffsetMask) + position % kLineInSegment;
}

[[gnu::hot]] bool TaskBoard::pending() const noexcept {
  for (std::uint64_t at = head_.load(std::memory_order_acquire);;) {
    const Place* place = place_at(at);
    if (place && place->load(std::memory_order_acquire)) return true;
    const std::uint64_t now = head_.load(std::memory_order_acquire);
    if (now == at) return false;
    at = now;
  }
}

[[gnu::hot]] std::uint32_t TaskBoard::post(std::uint32_t index, std::uint64_t under_way) {
  Slot& s = slot(index);
  std::uint32_t generation = word::generation(s.state.load(std::memory_order_relaxed));
  std::uint64_t flags = word::flags(s.state.load(std::memory_order_relaxed));
  s.cpu.store(static_cast<std::uint16_t>(os::this_cpu()), std::memory_order_relaxed);
  s.crowd = static_cast<std::uint8_t>(std::min<std::uint64_t>(under_way / 8, 255));
  s.state.store(word::make(Phase::posted, generation) | flags, std::memory_order_release);
  try {
    put_in_line(index, generation);
  } catch (...) {
    s.state.store(word::make(Phase::free, generation), std::memory_order_release);
    throw;
  }
  const std::uint32_t before = std::exchange(last_, index);
  return before == index ? kNoTask : before;
}

void TaskBoard::post_again(std::uint32_t index, std::uint32_t dead_worker) {
  Slot& s = slot(index);
  std::uint64_t now = s.state.load(std::memory_order_acquire);
  while (word::phase(now) == Phase::claimed && word::worker(now) == dead_worker) {
    if (s.state.compare_exchange_weak(now, word::make(Phase::posted, word::generation(now)) | word::flags(now),
                                      std::memory_order_acq_rel)) {
      put_in_line(index, word::generation(now));
      return;
    }
  }
}

// False if none sleeps. If it was for one that has died since, the supervisor, who buries it, sees that tasks wait.
[[gnu::hot]] bool TaskBoard::ring_one() noexcept {
  for (std::uint32_t worker; (worker = asleep_.first(workers_)) != workers_;) {
    if (!asleep_.remove(worker)) continue;
    auto& bell = this->worker(worker).bell;
    bell.fetch_add(1, std::memory_order_seq_cst);
    os::futex_wake(bell, 1);
    return true;
  }
  return false;
}

[[gnu::hot]] void TaskBoard::ring(std::uint32_t before) noexcept {
  os::light_fence();
  if (asleep_.first(workers_) == workers_) [[likely]]
    return;
  if (looking_.first(workers_) != workers_) {
    // To be sure that the post is seen, it must be visible before the second look.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (looking_.first(workers_) != workers_) return;
  }
  const std::uint32_t hands = awake();
  if (hands < cpus_ && (hands == 0 || !are_quick(before))) ring_one();
  else if (!watched_.load(std::memory_order_relaxed)) signal();
}

// Whether those awake will have done what waits before another is awake: tasks are tiny, and theirs go on. The one before still waits behind
// others, or some were done since this was last asked; if not, one that is not tiny may have come.
[[gnu::hot]] bool TaskBoard::are_quick(std::uint32_t before) noexcept {
  if (before == kLarge || !tiny_.load(std::memory_order_relaxed)) return false;
  if (before == kOneself) return true;
  if (before != kNoTask && word::phase(slot(before).state.load(std::memory_order_relaxed)) == Phase::posted)
    return true;
  std::uint64_t done = 0;
  asleep_.for_others(workers_, [&](std::uint32_t i) { done += worker(i).tasks.load(std::memory_order_relaxed); });
  return done_then_.exchange(done, std::memory_order_relaxed) != done;
}

// What a worker's time awake says of its tasks. `end`: when the last was done, as far as it was noted.
void TaskBoard::judge(const Shift& shift, std::uint64_t done) noexcept {
  const std::uint64_t tasks = done - shift.done_before;
  if (tasks == 0 || shift.done != done || shift.chunks) return;
  const auto each = (shift.end - shift.begin) / tasks;
  if (each >= kLongTask) say_tiny(false);
  else if (each < kTinyTask && tasks >= kFewTasks) say_tiny(true);
}

void TaskBoard::say_tiny(bool tiny) noexcept {
  if ((tiny_.load(std::memory_order_relaxed) != 0) != tiny) tiny_.store(tiny, std::memory_order_relaxed);
}

bool TaskBoard::more_hands(std::chrono::nanoseconds now) noexcept {
  if (!short_of_hands()) {
    if (!watched_.exchange(0, std::memory_order_seq_cst)) return false;
    os::heavy_fence();  // a post that has seen `watched_` set is seen now
    if (!short_of_hands()) return false;
  }
  const std::uint64_t head = head_.load(std::memory_order_relaxed);
  if (watched_.exchange(1, std::memory_order_relaxed)) {
    if (now - looked_at_ < kMoment) return true;
    const std::uint32_t hands = awake();
    const std::uint64_t many = hands < cpus_ ? kMoment / kTinyTask : kManyTasks;
    if (head - head_then_ < hands * many)
      for (std::uint32_t i = 0; i <= hands && ring_one(); ++i) {}
  }
  head_then_ = head;
  looked_at_ = now;
  return true;
}

bool TaskBoard::cancel(std::uint32_t index, std::uint32_t generation) noexcept {
  Slot& s = slot(index);
  std::uint64_t now = s.state.load(std::memory_order_acquire);
  while (word::phase(now) == Phase::posted && word::generation(now) == generation) {
    if (s.state.compare_exchange_weak(now, word::make(Phase::cancelled, generation) | word::flags(now),
                                      std::memory_order_acq_rel)) {
      if (now & word::kSleeper) os::futex_wake(low_half(s.state), os::kAll);
      return true;
    }
  }
  return false;
}

bool TaskBoard::take_back(std::uint32_t index) noexcept {
  Slot& s = slot(index);
  std::uint64_t now = s.state.load(std::memory_order_acquire);
  while (word::phase(now) == Phase::posted) {
    if (s.state.compare_exchange_weak(now, word::make(Phase::claimed, word::generation(now), kOwner) | word::flags(now),
                                      std::memory_order_acq_rel))
      return true;
  }
  return false;
}

void TaskBoard::wait_signal(std::uint32_t seen, std::chrono::nanoseconds limit) noexcept {
  supervisor_sleeps_.store(1, std::memory_order_seq_cst);
  os::futex_wait(signal_, seen, limit);
  supervisor_sleeps_.store(0, std::memory_order_relaxed);
}

void TaskBoard::signal() noexcept {
  signal_.fetch_add(1, std::memory_order_seq_cst);
  if (supervisor_sleeps_.load(std::memory_order_seq_cst)) os::futex_wake(signal_, os::kAll);
}

void TaskBoard::free_blocks() noexcept {
  for (std::uint32_t i = 0; i < std::min(segments_, kSlotSegments); ++i) {
    const memory::Offset segment = slots_[i].load(std::memory_order_relaxed);
    if (Slot* slots = memory::array_at<Slot>(segment, kSlotsInSegment))
      for (std::uint32_t k = 0; k < kSlotsInSegment; ++k) slots[k].discard_rare();
    memory::try_deallocate(slots_[i].exchange(0, std::memory_order_relaxed));
  }
  const std::uint64_t used = std::min((tail_ + kLineInSegment - 1) / kLineInSegment, line_recycled_ + kLineSegments);
  for (std::uint64_t i = line_recycled_; i < used; ++i)
    memory::try_deallocate(line_[i % kLineSegments].exchange(0, std::memory_order_relaxed) & kOffsetMask);
  for (std::uint32_t i = 0; i < std::min(workers_, kMostWorkers); ++i) discard(worker(i).failure);
}

void TaskBoard::close(bool at_once) noexcept {
  std::uint32_t order = at_once ? 2 : 1, now = closing_.load(std::memory_order_relaxed);
  while (now < order && !closing_.compare_exchange_weak(now, order, std::memory_order_seq_cst)) {}
  std::atomic_thread_fence(std::memory_order_seq_cst);
  while (ring_one()) {}
}

[[gnu::hot]] bool TaskBoard::try_claim(std::uint32_t me, std::uint32_t& index) noexcept {
  for (;;) {
    std::uint64_t at = head_.load(std::memory_order_acquire);
    const Place* place = place_at(at);
    const std::uint64_t entry = place ? place->load(std::memory_order_acquire) : 0;
    if (entry == 0) {
      if (head_.load(std::memory_order_relaxed) == at) return false;
      continue;
    }
    index = static_cast<std::uint32_t>(entry) - 1;
    Slot* const s = try_slot(index);
    std::uint64_t now = s != nullptr ? s->state.load(std::memory_order_acquire) : kNoSlot;
    bool mine = false;
    while (!mine && word::phase(now) == Phase::posted && word::generation(now) == entry >> 32) {
      worker(me).intent.store((entry >> 32 << 32) | (index + 1), std::memory_order_release);
      mine =
          s->state.compare_exchange_weak(now, word::make(Phase::claimed, word::generation(now), me) | word::flags(now),
                                         std::memory_order_acq_rel, std::memory_order_acquire);
    }
    head_.compare_exchange_strong(at, at + 1, std::memory_order_acq_rel, std::memory_order_relaxed);
    if (mine) return true;
  }
}

// Looks for a while; false if in vain. Who has done all that there was of a stream lets more come together first, for a time in which
// their owner has enough results to take: else he takes line and slots from the owner's cache for each single task.
[[gnu::hot]] bool TaskBoard::look(std::uint32_t me, std::uint32_t posted_on, std::uint32_t crowd) noexcept {
  static thread_local os::Spinner spin;
  if (spin.sleeps_at_once(posted_on)) return false;
  looking_.add(me);
  if (os::spinning_pays() && !os::beside(posted_on))
    for (std::uint32_t i = 0; i < crowd * kGather; ++i) os::cpu_relax();
  const bool found = spin([&] { return !nothing_to_do(); }, posted_on);
  looking_.remove(me);
  return found;
}

// Until rung, or for a while.
[[gnu::hot]] void TaskBoard::sleep(std::uint32_t me, std::uint32_t posted_on) noexcept {
  auto& bell = worker(me).bell;
  for (bool beside : {os::beside(posted_on), false}) {
    const std::uint32_t seen = bell.load(std::memory_order_relaxed);
    asleep_.add(me);
    const bool sure = !beside && os::heavy_fence();
    const bool idle = nothing_to_do();
    const bool rung = idle && os::futex_wait(bell, seen,
                                             beside ? os::kBrief
                                             : sure ? kIdle
                                                    : os::kSlice) != os::Woken::timed_out;
    asleep_.remove(me);
    if (!idle || rung) return;
  }
}

[[gnu::hot]] TaskBoard::Claim TaskBoard::claim(std::uint32_t me, std::uint32_t& index) noexcept {
  static thread_local std::uint32_t posted_on = os::kAnyCpu, crowd = 0;  // of the last task
  static thread_local Shift shift;
  for (bool was_idle = false;; was_idle = true) {
    const std::uint32_t closing = closing_.load(std::memory_order_acquire);
    if (closing == 2) break;
    if (try_claim(me, index)) {
      Slot& s = slot(index);
      posted_on = s.cpu.load(std::memory_order_relaxed);
      s.cpu.store(static_cast<std::uint16_t>(os::this_cpu()), std::memory_order_relaxed);
      crowd = s.crowd;
      if (s.is(rare::kChunk)) [[unlikely]] {
        shift.chunks = true;
        say_tiny(false);
      }
      // Others were not woken as long as this one was expected to see all.
      if (was_idle && pending()) ring(kOneself);
      return Claim::got;
    }
    if (closing == 1) break;
    // The clock, but not for each of many tasks that come one by one.
    const std::uint64_t done = worker(me).tasks.load(std::memory_order_relaxed);
    if (shift.done != done && (crowd > 0 || done - shift.done_before <= kFewTasks)) {
      shift.end = os::monotonic_now();
      shift.done = done;
    }
    if (look(me, posted_on, std::exchange(crowd, 0))) continue;
    judge(shift, done);
    sleep(me, posted_on);
    shift = {.begin = os::monotonic_now(), .done_before = done};
  }
  worker(me).intent.store(0, std::memory_order_release);
  return Claim::leave;
}

[[gnu::hot]] void TaskBoard::publish(std::uint32_t index) noexcept {
  finish(index, word::generation(slot(index).state.load(std::memory_order_relaxed)));
}

[[gnu::hot]] void TaskBoard::finish(std::uint32_t index, std::uint32_t generation, Phase phase) noexcept {
  Slot& s = slot(index);
  std::uint64_t was = s.state.exchange(word::make(phase, generation), std::memory_order_acq_rel);
  if (was & word::kSleeper) os::futex_wake(low_half(s.state), os::kAll);
  if (was & word::kReport) {
    std::uint32_t first = reported_.load(std::memory_order_relaxed);
    do s.next.store(first, std::memory_order_relaxed);
    while (!reported_.compare_exchange_weak(first, index + 1, std::memory_order_acq_rel));
    signal();
  }
}

}  // namespace mp::pool
