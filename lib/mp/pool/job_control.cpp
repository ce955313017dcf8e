#include "mp/pool/job_control.hpp"

#include "mp/os/futex.hpp"
#include "mp/pool/failure.hpp"

namespace mp::pool {

void JobControl::charge(std::uint64_t item, std::exception_ptr error) {
  {
    std::lock_guard guard(mutex_);
    if (state(item) != ItemState::waiting) return;
    if (retries_ > 0 && attempts_[item]++ < retries_) return;
    lost_[item] = std::move(error);
  }
  job().flawed.store(1, std::memory_order_relaxed);
  job().states()[item].store(static_cast<std::uint8_t>(ItemState::lost), std::memory_order_release);
  announce_progress(job());
}

std::exception_ptr JobControl::error(std::uint64_t item) {
  if (state(item) == ItemState::lost) {
    std::lock_guard guard(mutex_);
    return lost_[item];
  }
  if (state(item) != ItemState::exception)
    return std::make_exception_ptr(
        UnpicklingError("the state of item " + std::to_string(item) + " is none of those there are"));
  const Parcel parcel = failure_of(job(), item, items_);
  if (parcel.size == 0) return std::make_exception_ptr(memory::full(0));
  return load_failure(parcel, item, {});
}

void JobControl::sleep(std::uint64_t item, std::chrono::nanoseconds limit) noexcept {
  Job& j = job();
  std::uint32_t seen = j.progress.load(std::memory_order_seq_cst);
  j.attention.fetch_or(Job::kWaited, std::memory_order_seq_cst);
  if (state(item) != ItemState::waiting) return;
  if (os::futex_wait(j.progress, seen, limit) == os::Woken::timed_out) engine_->nudge();
}

}  // namespace mp::pool
