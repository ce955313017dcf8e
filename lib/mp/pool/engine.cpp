#include "mp/pool/engine.hpp"

#include <algorithm>

#include "mp/memory/family.hpp"
#include "mp/os/cpu.hpp"
#include "mp/pool/failure.hpp"
#include "mp/pool/job_control.hpp"
#include "mp/pool/supervisor.hpp"

namespace mp::pool {
namespace {

void destroy_board(void* object) noexcept { static_cast<TaskBoard*>(object)->free_blocks(); }
const bool registered = memory::set_destroyer(memory::Kind::board, destroy_board, alignof(TaskBoard));

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
      board_ref_(memory::create<TaskBoard>(memory::Kind::board, 0, options.workers * sizeof(WorkerEntry),
                                           options.workers, process_cpu_count())),
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

// From here on nobody posts. Whoever gives the last task back that a future holds deletes all.
void ProcessEngine::wait_for_tasks() noexcept {
  bool last;
  {
    std::lock_guard guard(line_mutex_);
    retired_ = true;
    last = held_ == 0;
  }
  if (last) delete this;
}

void ProcessEngine::refuse_strangers() {
  throw Error("this pool belongs to another process: a child makes a pool of its own");
}

void ProcessEngine::close(bool cancel) {
  check_owner();
  {
    std::lock_guard guard(line_mutex_);
    if (mode_ == Mode::open) mode_ = Mode::closing;
  }
  if (cancel) lose_waiting(std::make_exception_ptr(CancelledError()), Phase::cancelled);
  board_->close(false);
  board_->signal();
}

void ProcessEngine::terminate() {
  check_owner();
  {
    std::lock_guard guard(line_mutex_);
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
  const Mode mode = mode_.load(std::memory_order_acquire);
  if (mode == Mode::open) [[likely]]
    return;
  if (mode == Mode::broken) std::rethrow_exception(broken_);
  throw Error("cannot schedule new tasks after shutdown");
}

[[gnu::hot]] Held<SlotTask> ProcessEngine::take() {
  check_owner();
  std::lock_guard guard(line_mutex_);
  SlotTask& t = free_ ? *free_ : grow();
  free_ = t.next_free_;
  ++held_;
  t.hold_first();
  return Held<SlotTask>(&t);
}

// One more segment of free tasks; the first of them.
SlotTask& ProcessEngine::grow() {
  refuse_unless_open();
  auto tasks = std::make_unique<SlotTask[]>(TaskBoard::kSlotsInSegment);
  const std::uint32_t first = board_->grow();
  for (std::uint32_t i = 0; i < TaskBoard::kSlotsInSegment; ++i) {
    SlotTask& t = tasks[i];
    t.engine_ = this;
    t.index_ = first + i;
    t.slot_ = &board_->slot(first + i);
    t.next_free_ = i + 1 < TaskBoard::kSlotsInSegment ? &tasks[i + 1] : nullptr;
  }
  free_ = &tasks[0];
  tasks_.push_back(std::move(tasks));
  slots_.store(first + TaskBoard::kSlotsInSegment, std::memory_order_release);
  return *free_;
}

[[gnu::hot]] void ProcessEngine::give_back(SlotTask& t) noexcept {
  Slot& s = *t.slot_;
  if (s.rare) [[unlikely]] {
    if (s.is(rare::kLimited) && limits_of_slot(t.index_).timed()) timed_.fetch_sub(1, std::memory_order_relaxed);
    s.discard_rare();
  }
  if (t.extras_) [[unlikely]] {
    std::unique_ptr<SlotTask::Extras> extras;
    std::lock_guard guard(extras_mutex_);  // the supervisor may be looking for the name of what a worker ran
    extras = std::move(t.extras_);
  }
  board_->recycle(t.index_, ++t.generation_);
  bool last;
  {
    std::lock_guard guard(line_mutex_);
    t.next_free_ = std::exchange(free_, &t);
    last = --held_ == 0 && retired_;
  }
  if (last) delete this;
}

[[gnu::hot]] void ProcessEngine::line_up(SlotTask& t, const TaskOptions& options) {
  Slot& s = *t.slot_;
  s.outcome = Outcome::value;
  s.attempts_left = static_cast<std::uint8_t>(std::min(options.retries, 255u));
  if (!options.timeout.forever() || options.limits.any()) [[unlikely]]
    limit(t, limits_of(options.timeout, options.limits));
  if (!options.name.empty()) [[unlikely]] {
    std::lock_guard guard(extras_mutex_);
    t.extras().name = options.name;
  }
  const bool chunk = s.is(rare::kChunk);
  std::uint32_t before;
  {
    std::lock_guard guard(line_mutex_);
    refuse_unless_open();
    t.number_ = ++posted_;
    before = board_->post(t.index_, held_);
  }
  board_->ring(chunk ? TaskBoard::kLarge : before);
}

// The worker is told in the slot, the supervisor by what nobody else can write.
void ProcessEngine::limit(SlotTask& t, const Limits& limits) {
  Slot& s = *t.slot_;
  {
    std::lock_guard guard(extras_mutex_);
    t.extras().limits = limits;
  }
  s.limits = memory::allocate(sizeof(Limits));
  new (memory::at<Limits>(s.limits)) Limits(limits);
  s.rare |= rare::kLimited;
  if (limits.timed() && timed_.fetch_add(1, std::memory_order_relaxed) == 0)
    board_->signal();  // the supervisor begins to look at clocks
}

Limits ProcessEngine::limits_of_slot(std::uint32_t slot) noexcept {
  std::lock_guard guard(extras_mutex_);
  const SlotTask& t = task(slot);
  return t.extras_ ? t.extras_->limits : Limits();
}

std::exception_ptr ProcessEngine::error_of(SlotTask& t) {
  check_owner();
  std::string name;
  {
    std::lock_guard guard(extras_mutex_);
    if (t.extras_) {
      if (t.extras_->lost) return t.extras_->lost;
      name = t.extras_->name;
    }
  }
  if (t.look() == Phase::cancelled) return std::make_exception_ptr(CancelledError());
  const std::exception_ptr error = load_failure(t.slot(), t.number_, name);
  return t.slot().is(rare::kLimited) ? with_call(error, t.slot().run) : error;
}

void ProcessEngine::lose(SlotTask& t, std::exception_ptr error, Phase phase) noexcept {
  {
    std::lock_guard guard(extras_mutex_);
    t.extras().lost = std::move(error);
  }
  t.slot_->outcome = Outcome::lost;
  board_->finish(t.index_, t.generation_, phase);
}

// Takes every posted task out of line and ends it.
void ProcessEngine::lose_waiting(const std::exception_ptr& why, Phase phase) noexcept {
  const std::uint32_t slots = slots_.load(std::memory_order_acquire);
  for (std::uint32_t i = 0; i < slots; ++i)
    if (board_->take_back(i)) lose(task(i), why, phase);
}

// The task again in line after its worker's death.
void ProcessEngine::post_again(SlotTask& t, std::uint32_t dead_worker) {
  std::lock_guard guard(line_mutex_);
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
