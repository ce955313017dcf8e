// The supervisor's part in limits of time, and the killing of a worker for what it runs.
#include <signal.h>
#include <unistd.h>

#include "mp/os/clock.hpp"
#include "mp/os/life.hpp"
#include "mp/pool/supervisor.hpp"

namespace mp::pool {
namespace {

// How long a process may take to obey SIGSTOP.
constexpr std::chrono::nanoseconds kStopWait = std::chrono::milliseconds(100);

}  // namespace

void Supervisor::check_limits() noexcept {
  if (engine_.timed_.load(std::memory_order_relaxed) == 0) return;
  const std::int64_t now = os::monotonic_now().count();
  for (std::uint32_t i = 0; i < workers_.size(); ++i) {
    if (workers_[i].ended) continue;
    WorkerEntry& entry = board_.worker(i);
    const std::uint64_t since = entry.since.load(std::memory_order_acquire);
    const Intent intent{entry.intent.load(std::memory_order_acquire)};
    SlotTask* task = since != 0 && intent.names_a_task() ? engine_.try_task(intent.slot()) : nullptr;
    if (task == nullptr) continue;
    const std::uint64_t state = task->slot().state.load(std::memory_order_acquire);
    if (word::phase(state) != Phase::claimed || word::worker(state) != i ||
        word::generation(state) != intent.generation())
      continue;
    const Limits limits = engine_.limits_of_slot(intent.slot());
    Order order{Limit::none, since, 0, now};
    if (const auto ran = static_cast<std::uint64_t>(now) - since;
        limits.wall_time != 0 && static_cast<std::uint64_t>(now) > since && ran >= limits.wall_time) {
      order.limit = Limit::wall_time;
      order.used = ran;
    } else if (limits.cpu_time != 0) {
      const std::uint64_t then = entry.cpu_then.load(std::memory_order_relaxed);
      const std::uint64_t used = os::cpu_time_of(record_of(workers_[i].record).pid.load(std::memory_order_acquire));
      if (used > then && used - then >= limits.cpu_time) {
        order.limit = Limit::cpu_time;
        order.used = used - then;
      }
    }
    if (order.limit != Limit::none) end_for(order, i, intent);
  }
}

// First by an order, so that the worker says where it is; it obeys only while it runs what is meant (limits.cpp). One that blocks
// signals, or hangs in the kernel, is killed.
void Supervisor::end_for(const Order& order, std::uint32_t index, const Intent& intent) noexcept {
  Worker& w = workers_[index];
  if (w.order.limit == Limit::none || w.order.since != order.since) {
    w.order = order;
    board_.worker(index).ordered.store(order.since, std::memory_order_release);
    if (os::UniqueFd fd = hold(record_of(w.record))) os::send_signal(fd.get(), SIGXCPU);
  } else if (order.at - w.order.at >= kGrace) {
    stop_and_kill(index, Reason::limit, intent.slot(), intent.generation(), order.since);
  }
}

// For which limit the worker ended with what it ran, if it was for one.
Limit Supervisor::limit_passed(std::uint32_t index, const Slot& slot, const CrashDetails& details) const noexcept {
  const Order& order = workers_[index].order;
  if ((details.signal == SIGXCPU || details.signal == SIGKILL) && order.limit != Limit::none &&
      order.since == board_.worker(index).since.load(std::memory_order_acquire))
    return order.limit;
  return details.signal == SIGXFSZ && slot.is(rare::kLimited) ? Limit::file_size : Limit::none;
}

bool Supervisor::kill(SlotTask& task) {
  std::lock_guard guard(workers_mutex_);
  std::uint64_t state = task.slot().state.load(std::memory_order_acquire);
  if (word::phase(state) != Phase::claimed) return word::phase(state) == Phase::cancelled;
  std::uint32_t index = word::worker(state);
  if (index >= workers_.size() || workers_[index].ended) return false;
  return stop_and_kill(index, Reason::cancel, task.index(), task.generation_, 0);
}

// Kills a worker for what it runs, and only for that: it is stopped first, and goes on if it has meanwhile done with it.
// `since` is when that began, 0 = whatever it does in that slot.
bool Supervisor::stop_and_kill(std::uint32_t index, Reason reason, std::uint32_t slot, std::uint32_t generation,
                               std::uint64_t since) noexcept {
  Worker& w = workers_[index];
  os::UniqueFd fd = hold(record_of(w.record));
  if (!fd) return false;
  os::send_signal(fd.get(), SIGSTOP);
  os::Deadline deadline{Timeout(kStopWait)};
  pid_t pid = record_of(w.record).pid.load(std::memory_order_acquire);
  while (os::run_state(pid) != 'T' && !os::ended(fd.get()) && !deadline.passed()) ::usleep(50);
  std::uint64_t state = board_.slot(slot).state.load(std::memory_order_acquire);
  bool still = word::phase(state) == Phase::claimed && word::worker(state) == index &&
               word::generation(state) == generation &&
               (since == 0 || board_.worker(index).since.load(std::memory_order_acquire) == since);
  if (still) {
    w.reason = reason;
    os::send_signal(fd.get(), SIGKILL);
  } else {
    os::send_signal(fd.get(), SIGCONT);
  }
  return still;
}

}  // namespace mp::pool
