#include "mp/pool/slot_task.hpp"

#include <bit>

#include "mp/memory/family.hpp"
#include "mp/os/futex.hpp"
#include "mp/os/spin.hpp"
#include "mp/pool/engine.hpp"
#include "mp/pool/failure.hpp"

namespace mp::pool {
namespace {

constexpr std::uint64_t kAbandoned = std::uint64_t{1} << 32;

const std::atomic<std::uint32_t>& low_half(const std::atomic<std::uint64_t>& state) noexcept {
  static_assert(std::endian::native == std::endian::little);
  return reinterpret_cast<const std::atomic<std::uint32_t>&>(state);
}

}  // namespace

FutureStatus SlotTask::status() noexcept {
  switch (look()) {
    case Phase::claimed: return FutureStatus::running;
    case Phase::done: return FutureStatus::finished;
    case Phase::cancelled: return FutureStatus::cancelled;
    default: return FutureStatus::pending;
  }
}

[[gnu::hot]] bool SlotTask::sleep(const os::Deadline& deadline) const {
  static thread_local os::Spinner spin;
  auto done = [&] { return look() >= Phase::done; };
  static thread_local std::uint32_t ran_on = os::kAnyCpu;  // the last task waited for
  const bool claimed = look() == Phase::claimed;
  if (spin(done, claimed ? slot_->cpu.load(std::memory_order_relaxed) : ran_on)) return true;
  for (;;) {
    std::uint64_t now = slot_->state.fetch_or(word::kSleeper, std::memory_order_acq_rel) | word::kSleeper;
    if (done()) return true;
    auto limit = deadline.next(os::kSlice);
    if (limit == limit.zero()) return false;
    if (os::futex_wait(low_half(slot_->state), static_cast<std::uint32_t>(now), limit) == os::Woken::timed_out) {
      engine_->check_owner();
      engine_->nudge();  // should a bell have been lost to a kill, the supervisor rings again
    }
    if (done()) {
      ran_on = slot_->cpu.load(std::memory_order_relaxed);
      return true;
    }
  }
}

bool SlotTask::cancel() {
  engine_->check_owner();
  if (!engine_->board().cancel(index_, generation_)) return look() == Phase::cancelled;
  run_callbacks();
  return true;
}

bool SlotTask::kill() { return cancel() || engine_->kill(*this); }

SlotTask::Extras& SlotTask::extras() {
  if (!extras_) extras_ = std::make_unique<Extras>();
  return *extras_;
}

void SlotTask::add_callback(std::function<void()> f) {
  engine_->check_owner();
  {
    std::lock_guard guard(engine_->extras_mutex_);
    if (look() < Phase::done || (extras_ && extras_->reporting)) {
      Extras& e = extras();
      e.callbacks.push_back(std::move(f));
      if (e.reporting) return;
      std::uint64_t was = slot_->state.fetch_or(word::kReport, std::memory_order_acq_rel);
      if (word::phase(was) < Phase::done) {
        e.reporting = true;
        hold();
        return;
      }
      f = std::move(e.callbacks.back());  // done meanwhile, and nobody will report it
      e.callbacks.pop_back();
    }
  }
  call_back(f);
}

void SlotTask::run_callbacks() noexcept {
  std::vector<std::function<void()>> todo;
  {
    std::lock_guard guard(engine_->extras_mutex_);
    if (!extras_ || !extras_->reporting) return;
    extras_->reporting = false;
    todo.swap(extras_->callbacks);
  }
  for (auto& f : todo) call_back(f);
  todo.clear();
  let_go();
}

std::exception_ptr SlotTask::error() {
  if (look() == Phase::done && slot_->outcome == Outcome::value) return nullptr;
  return engine_->error_of(*this);
}

[[gnu::hot]] std::span<const std::byte> SlotTask::message() {
  if (look() != Phase::done || slot_->outcome != Outcome::value) [[unlikely]]
    std::rethrow_exception(error());
  return slot_->result_payload();
}

bool SlotTask::claim_abandoned(std::uint32_t generation) noexcept {
  std::uint64_t expected = kAbandoned | generation;
  return abandoned_.compare_exchange_strong(expected, 0, std::memory_order_acq_rel);
}

[[gnu::hot]] void SlotTask::unheld() noexcept {
  if (!engine_->is_owner()) return;  // in a fork child the copy is void
  Phase phase = look();
  if (phase == Phase::posted || phase == Phase::claimed) {
    abandoned_.store(kAbandoned | generation_, std::memory_order_release);
    std::uint64_t was = slot_->state.fetch_or(word::kReport, std::memory_order_acq_rel);
    if (word::phase(was) < Phase::done) return;
    if (!claim_abandoned(generation_)) return;
  }
  engine_->give_back(*this);
}

}  // namespace mp::pool
