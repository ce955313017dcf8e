// The owner's side of a job as the supervisor needs it: what becomes of the item that a dead worker ran.
#pragma once

#include <cstdint>
#include <exception>
#include <mutex>
#include <unordered_map>

#include "mp/pool/engine.hpp"
#include "mp/pool/job.hpp"

namespace mp::pool {

// *Thread safety*: any thread of the owner. Keeps the engine and the job's object.
class JobControl {
 public:
  JobControl(std::shared_ptr<ProcessEngine> engine, memory::Ref job, unsigned retries)
      : engine_(std::move(engine)),
        job_(std::move(job)),
        items_(job_.as<Job>().items),
        retries_(retries) {}
  JobControl(const JobControl&) = delete;
  JobControl& operator=(const JobControl&) = delete;

  Job& job() const noexcept { return job_.as<Job>(); }
  const memory::Ref& ref() const noexcept { return job_; }
  ProcessEngine& engine() const noexcept { return *engine_; }
  std::uint64_t items() const noexcept {
    return items_;
  }  // as it was made: the job itself any process may have written to
  ItemState state(std::uint64_t item) const noexcept {
    return static_cast<ItemState>(job().states()[item].load(std::memory_order_acquire));
  }

  // The item's attempt failed with its worker: it is tried again if it may be, else `error` is its outcome.
  void charge(std::uint64_t item, std::exception_ptr error);
  // The error of an item in state exception or lost.
  std::exception_ptr error(std::uint64_t item);
  // Sleeps until anything is done in the job, at most `limit` (a slice).
  void sleep(std::uint64_t item, std::chrono::nanoseconds limit) noexcept;

 private:
  std::shared_ptr<ProcessEngine> engine_;
  memory::Ref job_;
  const std::uint64_t items_;
  const unsigned retries_;
  std::mutex mutex_;
  std::unordered_map<std::uint64_t, unsigned> attempts_;
  std::unordered_map<std::uint64_t, std::exception_ptr> lost_;
};

}  // namespace mp::pool
