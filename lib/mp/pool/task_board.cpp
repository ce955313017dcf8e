#include "mp/pool/task_board.hpp"

#include <bit>

#include "mp/errors.hpp"
#include "mp/os/clock.hpp"
#include "mp/os/futex.hpp"
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

}  // namespace

std::uint32_t TaskBoard::grow() {
  if (segments_ == kSlotSegments) throw Error("a pool holds at most 33 million tasks at a time");
  memory::Offset block = memory::allocate(sizeof(Slot) * kSlotsInSegment, 64);
  for (std::uint32_t i = 0; i < kSlotsInSegment; ++i) new (memory::at<Slot>(block) + i) Slot{};
  slots_[segments_].store(block, std::memory_order_release);
  return segments_++ * kSlotsInSegment;
}

void TaskBoard::put_in_line(std::uint32_t index, std::uint32_t generation) {
  std::uint64_t position = tail_.load(std::memory_order_relaxed);
  std::uint64_t segment = position / kOrderInSegment;
  auto& entry = order_[segment % kOrderSegments];
  if (position % kOrderInSegment == 0) {
    // A segment that all workers have passed serves again; one who reads there too late finds entries that name nothing
    // of his (invariant 4).
    std::uint64_t passed = head_.load(std::memory_order_acquire) / kOrderInSegment;
    if (order_recycled_ < passed) {
      auto& old = order_[order_recycled_ % kOrderSegments];
      entry.store(old.load(std::memory_order_relaxed), std::memory_order_release);
      ++order_recycled_;
    } else {
      if (segment - order_recycled_ >= kOrderSegments) throw Error("a pool holds at most 33 million waiting tasks");
      memory::Offset block = memory::allocate(kOrderInSegment * sizeof(std::uint64_t));
      auto* fresh = memory::at<std::atomic<std::uint64_t>>(block);
      for (std::uint64_t i = 0; i < kOrderInSegment; ++i) new (fresh + i) std::atomic<std::uint64_t>(0);
      entry.store(block, std::memory_order_release);
    }
  }
  auto* line = memory::at<std::atomic<std::uint64_t>>(entry.load(std::memory_order_relaxed));
  line[position % kOrderInSegment].store(std::uint64_t{generation} << 32 | index, std::memory_order_relaxed);
  tail_.store(position + 1, std::memory_order_seq_cst);  // before the look at the doorbell
}

void TaskBoard::post(std::uint32_t index) {
  Slot& s = slot(index);
  std::uint32_t generation = word::generation(s.state.load(std::memory_order_relaxed));
  std::uint64_t flags = word::flags(s.state.load(std::memory_order_relaxed));
  s.state.store(word::make(Phase::posted, generation) | flags, std::memory_order_release);
  try {
    put_in_line(index, generation);
  } catch (...) {
    s.state.store(word::make(Phase::free, generation), std::memory_order_release);
    throw;
  }
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

void TaskBoard::ring(bool all) noexcept {
  std::uint32_t bell = doorbell_.load(std::memory_order_seq_cst);
  if (!all && !(bell & 1)) return;
  // Cleared before the wake: a worker that wakes sets it again for those that may still sleep.
  while (!doorbell_.compare_exchange_weak(bell, (bell + 2) & ~1u, std::memory_order_seq_cst)) {}
  os::futex_wake(doorbell_, all ? os::kAll : 1);
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
  for (std::uint32_t i = 0; i < segments_; ++i) {
    for (std::uint32_t k = 0; k < kSlotsInSegment; ++k) {
      Slot& s = slot(i * kSlotsInSegment + k);
      discard(s.arguments);
      if (s.outcome != Outcome::no_room) discard(s.result);
    }
  }
  for (std::uint32_t i = 0; i < segments_; ++i) memory::deallocate(slots_[i].load(std::memory_order_relaxed));
  std::uint64_t used = (tail_.load(std::memory_order_relaxed) + kOrderInSegment - 1) / kOrderInSegment;
  for (std::uint64_t i = order_recycled_; i < used; ++i)
    memory::deallocate(order_[i % kOrderSegments].load(std::memory_order_relaxed));
  for (std::uint32_t i = 0; i < workers_; ++i) discard(worker(i).failure);
}

void TaskBoard::close(bool at_once) noexcept {
  std::uint32_t order = at_once ? 2 : 1, now = closing_.load(std::memory_order_relaxed);
  while (now < order && !closing_.compare_exchange_weak(now, order, std::memory_order_seq_cst)) {}
  ring(true);
}

bool TaskBoard::try_claim(std::uint32_t me, std::uint32_t& index) noexcept {
  for (;;) {
    std::uint64_t at = head_.load(std::memory_order_acquire);
    if (at >= tail_.load(std::memory_order_seq_cst)) return false;
    auto* line = memory::at<std::atomic<std::uint64_t>>(
        order_[at / kOrderInSegment % kOrderSegments].load(std::memory_order_acquire));
    std::uint64_t entry = line[at % kOrderInSegment].load(std::memory_order_relaxed);
    index = static_cast<std::uint32_t>(entry);
    Slot& s = slot(index);
    std::uint64_t now = s.state.load(std::memory_order_acquire);
    bool mine = false;
    while (!mine && word::phase(now) == Phase::posted && word::generation(now) == entry >> 32) {
      worker(me).intent.store((entry >> 32 << 32) | (index + 1), std::memory_order_release);
      mine =
          s.state.compare_exchange_weak(now, word::make(Phase::claimed, word::generation(now), me) | word::flags(now),
                                        std::memory_order_acq_rel, std::memory_order_acquire);
    }
    head_.compare_exchange_strong(at, at + 1, std::memory_order_acq_rel, std::memory_order_relaxed);
    if (mine) return true;
  }
}

TaskBoard::Claim TaskBoard::claim(std::uint32_t me, std::uint32_t& index) noexcept {
  static thread_local os::Spinner spin;
  bool slept = false;
  for (;;) {
    std::uint32_t closing = closing_.load(std::memory_order_acquire);
    if (closing == 2) break;
    if (try_claim(me, index)) {
      // One bell may stand for many posts: who was woken by it wakes the next while tasks remain.
      if (slept && pending()) ring(false);
      return Claim::got;
    }
    if (closing == 1) break;
    if (spin([&] { return pending() || closing_.load(std::memory_order_relaxed); })) continue;
    std::uint32_t bell = doorbell_.fetch_or(1, std::memory_order_seq_cst) | 1;
    if (head_.load(std::memory_order_relaxed) < tail_.load(std::memory_order_seq_cst) ||
        closing_.load(std::memory_order_seq_cst))
      continue;
    os::futex_wait(doorbell_, bell, kIdle);
    doorbell_.fetch_or(1, std::memory_order_seq_cst);  // others may sleep still
    slept = true;
  }
  worker(me).intent.store(0, std::memory_order_release);
  return Claim::leave;
}

void TaskBoard::publish(std::uint32_t index) noexcept {
  finish(index, word::generation(slot(index).state.load(std::memory_order_relaxed)));
}

void TaskBoard::finish(std::uint32_t index, std::uint32_t generation, Phase phase) noexcept {
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
