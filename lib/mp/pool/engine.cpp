#include "mp/pool/engine.hpp"

#include <algorithm>

#include "mp/memory/family.hpp"
#include "mp/os/cpu.hpp"
#include "mp/pool/failure.hpp"
#include "mp/pool/job_control.hpp"
#include "mp/pool/supervisor.hpp"

namespace mp::pool {
namespace {

void free_parcels(Slot& slot) noexcept {
  discard(slot.arguments);
  if (slot.outcome == Outcome::no_room) slot.result = {};
  discard(slot.result);
}

void destroy_board(void* object) noexcept { static_cast<TaskBoard*>(object)->free_blocks(); }
const bool registered = memory::set_destroyer(memory::Kind::board, destroy_board);

}  // namespace

// ---- start and end --------------------------------------------------------------------------------------------------

std::shared_ptr<ProcessEngine> ProcessEngine::start(EngineOptions options) {
  if (options.workers == 0) options.workers = process_cpu_count();
  if (options.workers > TaskBoard::kMostWorkers)
    throw ValueError("a pool has at most " + std::to_string(TaskBoard::kMostWorkers) + " workers, not " +
                     std::to_string(options.workers));
  std::shared_ptr<ProcessEngine> engine(new ProcessEngine(options), [](ProcessEngine* e) { e->retire(); });
  engine->supervisor_ = std::make_unique<Supervisor>(*engine, std::move(options));
  return engine;
}

ProcessEngine::ProcessEngine(const EngineOptions& options)
    : owner_(memory::self()),
      board_ref_(
          memory::create<TaskBoard>(memory::Kind::board, 0, options.workers * sizeof(WorkerEntry), options.workers)),
      board_(&board_ref_.as<TaskBoard>()) {
  for (std::uint32_t i = 0; i < options.workers; ++i) new (&board_->worker(i)) WorkerEntry{};
  tasks_.reserve(TaskBoard::kSlotSegments);
}

ProcessEngine::~ProcessEngine() = default;

void ProcessEngine::retire() noexcept {
  if (!is_owner()) {  // a copy in a fork child
    if (supervisor_) supervisor_->forget();
    return;
  }
  if (supervisor_) {  // else it could not be started
    terminate();
    if (supervisor_->is_this_thread()) return supervisor_->retire_after();
    supervisor_->join();
  }
  wait_for_tasks();
}

// From here on nobody posts. Tasks that futures still hold are counted; whoever gives the last one back deletes all.
void ProcessEngine::wait_for_tasks() noexcept {
  std::uint64_t head = free_.exchange(kGone, std::memory_order_acq_rel);
  auto held = static_cast<std::int64_t>(tasks_.size()) * TaskBoard::kSlotsInSegment;
  for (auto next = static_cast<std::uint32_t>(head); next != 0; --held)
    next = task(next - 1).next_free_.load(std::memory_order_relaxed);
  if (left_.fetch_add(held, std::memory_order_acq_rel) + held == 0) delete this;
}

void ProcessEngine::check_owner() const {
  if (!is_owner()) throw Error("this pool belongs to another process: a child makes a pool of its own");
}

void ProcessEngine::close(bool cancel) {
  check_owner();
  {
    std::lock_guard guard(mutex_);
    if (mode_ == Mode::open) mode_ = Mode::closing;
  }
  if (cancel) lose_waiting(std::make_exception_ptr(CancelledError()), Phase::cancelled);
  board_->close(false);
  board_->signal();
}

void ProcessEngine::terminate() {
  check_owner();
  {
    std::lock_guard guard(mutex_);
    if (mode_ != Mode::broken) mode_ = Mode::terminating;
  }
  board_->close(true);
  board_->signal();
}

void ProcessEngine::join() {
  check_owner();
  if (!supervisor_->is_this_thread()) supervisor_->join();
}

std::vector<pid_t> ProcessEngine::worker_pids() { return supervisor_->worker_pids(); }

// ---- tasks ----------------------------------------------------------------------------------------------------------

void ProcessEngine::refuse_unless_open() const {
  if (mode_ == Mode::broken) std::rethrow_exception(broken_);
  if (mode_ != Mode::open) throw Error("cannot schedule new tasks after shutdown");
}

Held<SlotTask> ProcessEngine::take() {
  check_owner();
  for (;;) {
    std::uint64_t head = free_.load(std::memory_order_acquire);
    while (auto first = static_cast<std::uint32_t>(head)) {
      SlotTask& t = task(first - 1);
      std::uint64_t rest = ((head >> 32) + 1) << 32 | t.next_free_.load(std::memory_order_relaxed);
      if (!free_.compare_exchange_weak(head, rest, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
      // The next will be written where a worker wrote last: its cache lines are on their way while this one is posted.
      if (auto next = static_cast<std::uint32_t>(rest)) task(next - 1).slot_->prefetch();
      t.hold_first();
      return Held<SlotTask>(&t);
    }
    grow();
  }
}

void ProcessEngine::grow() {
  std::lock_guard guard(mutex_);
  refuse_unless_open();
  if (static_cast<std::uint32_t>(free_.load(std::memory_order_acquire)) != 0) return;  // another thread was faster
  auto tasks = std::make_unique<SlotTask[]>(TaskBoard::kSlotsInSegment);
  const std::uint32_t first = board_->grow();
  for (std::uint32_t i = 0; i < TaskBoard::kSlotsInSegment; ++i) {
    SlotTask& t = tasks[i];
    t.engine_ = this;
    t.index_ = first + i;
    t.slot_ = &board_->slot(first + i);
    t.next_free_.store(first + i + 2, std::memory_order_relaxed);
  }
  SlotTask& last = tasks[TaskBoard::kSlotsInSegment - 1];
  tasks_.push_back(std::move(tasks));
  put_free(first + 1, last);
}

// Puts the chain from `first` (index + 1) to `last` on the stack.
void ProcessEngine::put_free(std::uint32_t first, SlotTask& last) noexcept {
  std::uint64_t head = free_.load(std::memory_order_relaxed);
  do {
    if (head == kGone) {
      if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
      return;
    }
    last.next_free_.store(static_cast<std::uint32_t>(head), std::memory_order_relaxed);
  } while (!free_.compare_exchange_weak(head, ((head >> 32) + 1) << 32 | first, std::memory_order_acq_rel,
                                        std::memory_order_relaxed));
}

void ProcessEngine::give_back(SlotTask& t) noexcept {
  Slot& s = *t.slot_;
  if (s.arguments.block || s.result.block) [[unlikely]]
    free_parcels(s);
  if (s.timeout) [[unlikely]] {
    timed_.fetch_sub(1, std::memory_order_relaxed);
    s.timeout = 0;
  }
  if (t.extras_) [[unlikely]] {
    std::unique_ptr<SlotTask::Extras> extras;
    std::lock_guard guard(mutex_);  // the supervisor may be looking for the name of what a worker ran
    extras = std::move(t.extras_);
  }
  board_->recycle(t.index_, ++t.generation_);
  put_free(t.index_ + 1, t);
}

void ProcessEngine::line_up(SlotTask& t, const TaskOptions& options) {
  Slot& s = *t.slot_;
  s.outcome = Outcome::value;
  s.attempts_left = static_cast<std::uint8_t>(std::min(options.retries, 255u));
  if (!options.timeout.forever()) {
    s.timeout = static_cast<std::uint64_t>(std::max<std::int64_t>(1, options.timeout.left().count()));
    if (timed_.fetch_add(1, std::memory_order_relaxed) == 0)
      board_->signal();  // the supervisor begins to look at clocks
  }
  if (!options.name.empty()) t.extras().name = options.name;
  {
    std::lock_guard guard(mutex_);
    refuse_unless_open();
    t.number_ = ++posted_;
    board_->post(t.index_);
  }
  board_->ring(false);
}

std::exception_ptr ProcessEngine::error_of(SlotTask& t) {
  check_owner();
  Slot& s = *t.slot_;
  std::string name;
  {
    std::lock_guard guard(mutex_);
    if (t.extras_) {
      if (t.extras_->lost) return t.extras_->lost;
      name = t.extras_->name;
    }
  }
  if (t.look() == Phase::cancelled) return std::make_exception_ptr(CancelledError());
  if (s.outcome == Outcome::no_room)
    return std::make_exception_ptr(
        SharedMemoryFull(s.result.size, memory::usage().committed, memory::usage().capacity));
  pickle::Reader in(payload(s.result, s.place));
  return load_failure(in, t.number_, name);
}

void ProcessEngine::lose(SlotTask& t, std::exception_ptr error, Phase phase) noexcept {
  {
    std::lock_guard guard(mutex_);
    t.extras().lost = std::move(error);
  }
  t.slot_->outcome = Outcome::lost;
  board_->finish(t.index_, t.generation_, phase);
}

// Takes every posted task out of line and ends it.
void ProcessEngine::lose_waiting(const std::exception_ptr& why, Phase phase) noexcept {
  std::uint32_t slots;
  {
    std::lock_guard guard(mutex_);
    slots = static_cast<std::uint32_t>(tasks_.size()) * TaskBoard::kSlotsInSegment;
  }
  for (std::uint32_t i = 0; i < slots; ++i)
    if (board_->take_back(i)) lose(task(i), why, phase);
}

// The task again in line after its worker's death.
void ProcessEngine::post_again(SlotTask& t, std::uint32_t dead_worker) {
  std::lock_guard guard(mutex_);
  board_->post_again(t.index_, dead_worker);
}

bool ProcessEngine::kill(SlotTask& t) {
  check_owner();
  return supervisor_->kill(t);
}

void ProcessEngine::add_job(memory::Offset job, std::weak_ptr<JobControl> control) {
  supervisor_->add_job(job, std::move(control));
}

void ProcessEngine::remove_job(memory::Offset job) noexcept { supervisor_->remove_job(job); }

}  // namespace mp::pool
