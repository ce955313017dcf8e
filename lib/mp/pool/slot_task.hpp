// The state of a process pool's task: the owner's private half of a slot on the board. One lies ready for each slot, in
// the engine's table, and serves task after task; no task costs an allocation of its own. It knows no types: the value stays in
// the slot as bytes until the last future of it is gone, and every asker reads it there.
//
// Life: free -> taken (one holder) -> lined up -> done -> let go of by all holders -> free, the slot with a new generation.
// A task whose futures are all gone before it is done is abandoned: the worker reports its end, and the supervisor frees it.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mp/pool/future_state.hpp"
#include "mp/pool/limits.hpp"
#include "mp/pool/task_board.hpp"

namespace mp::pool {

class ProcessEngine;

class SlotTask final : public FutureState {
 public:
  SlotTask() noexcept : FutureState(true) {}

  FutureStatus status() noexcept override;
  bool wait(const os::Deadline& deadline) override { return look() >= Phase::done || sleep(deadline); }
  bool cancel() override;
  bool kill() override;
  void add_callback(std::function<void()> f) override;
  std::exception_ptr error() override;
  std::span<const std::byte> message() override;

  Slot& slot() const noexcept { return *slot_; }
  std::uint32_t index() const noexcept { return index_; }
  // Where it stands.
  Phase look() const noexcept { return word::phase(slot_->state.load(std::memory_order_acquire)); }

 private:
  friend class ProcessEngine;
  friend class Supervisor;

  // What few tasks need. Guarded by the engine's extras_mutex_.
  struct Extras {
    std::string name;
    Limits limits;
    std::vector<std::function<void()>> callbacks;
    bool reporting = false;   // the supervisor will run them; that keeps one hold
    std::exception_ptr lost;  // how it ended, where the slot cannot say
  };
  Extras& extras();

  void unheld() noexcept override;
  bool sleep(const os::Deadline& deadline) const;
  void run_callbacks() noexcept;  // if the supervisor was to
  // Whoever gets true gives an abandoned task back; nobody else does.
  bool claim_abandoned(std::uint32_t generation) noexcept;

  ProcessEngine* engine_ = nullptr;
  Slot* slot_ = nullptr;
  std::uint32_t index_ = 0;
  std::uint32_t generation_ = 0;
  std::atomic<std::uint64_t> abandoned_{0};  // kAbandoned | generation, else 0
  std::uint64_t number_ = 0;                 // of the task in its pool, for messages
  SlotTask* next_free_ = nullptr;
  std::unique_ptr<Extras> extras_;
};

}  // namespace mp::pool
