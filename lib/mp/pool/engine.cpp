#include "mp/pool/engine.hpp"

#include <algorithm>

#include "mp/memory/family.hpp"
#include "mp/os/clock.hpp"
#include "mp/os/cpu.hpp"
#include "mp/os/futex.hpp"
#include "mp/os/spin.hpp"
#include "mp/pool/failure.hpp"
#include "mp/pool/job_control.hpp"

namespace mp::pool {
namespace {

void free_parcels(Slot& slot) noexcept {
  discard(slot.arguments);
  if (slot.outcome == Outcome::no_room) slot.result = {};
  discard(slot.result);
}

void destroy_board(void* object) noexcept { static_cast<TaskBoard*>(object)->free_blocks(); }
const bool registered = memory::set_destroyer(memory::Kind::board, destroy_board);

const std::atomic<std::uint32_t>& low_half(const std::atomic<std::uint64_t>& state) noexcept {
  return reinterpret_cast<const std::atomic<std::uint32_t>&>(state);
}

}  // namespace

// ---- SlotTask -------------------------------------------------------------------------------------------------------

SlotTask::~SlotTask() {
  if (!settled_) ticket_.engine->abandon(ticket_);
}

Slot& SlotTask::slot() const noexcept { return ticket_.engine->board().slot(ticket_.slot); }

Phase SlotTask::look() const noexcept {
  std::uint64_t state = slot().state.load(std::memory_order_acquire);
  return word::generation(state) == ticket_.generation ? word::phase(state) : Phase::done;
}

bool SlotTask::sleep(const os::Deadline& deadline) const {
  static thread_local os::Spinner spin;
  Slot& s = slot();
  auto done = [&] { return look() >= Phase::done; };
  if (spin(done)) return true;
  for (;;) {
    std::uint64_t now = s.state.fetch_or(word::kSleeper, std::memory_order_acq_rel) | word::kSleeper;
    if (done()) return true;
    auto limit = deadline.next(os::kSlice);
    if (limit == limit.zero()) return false;
    if (os::futex_wait(low_half(s.state), static_cast<std::uint32_t>(now), limit) == os::Woken::timed_out) {
      ticket_.engine->check_owner();
      ticket_.engine->nudge();  // should a bell have been lost to a kill, the supervisor rings again
    }
    if (done()) return true;
  }
}

bool SlotTask::ask_for_report(std::shared_ptr<SlotTask> self) {
  ticket_.engine->watch(ticket_, std::move(self));
  std::uint64_t was = slot().state.fetch_or(word::kReport, std::memory_order_acq_rel);
  if (word::phase(was) < Phase::done) return true;
  ticket_.engine->unwatch(ticket_);
  return false;
}

// ---- start and end --------------------------------------------------------------------------------------------------

std::shared_ptr<ProcessEngine> ProcessEngine::start(EngineOptions options) {
  if (options.workers == 0) options.workers = process_cpu_count();
  if (options.workers > TaskBoard::kMostWorkers)
    throw ValueError("a pool has at most " + std::to_string(TaskBoard::kMostWorkers) + " workers, not " +
                     std::to_string(options.workers));
  std::shared_ptr<ProcessEngine> engine(new ProcessEngine(std::move(options)));
  engine->start_server();
  for (std::uint32_t i = 0; i < engine->workers_.size(); ++i) engine->launch(i);
  engine->start_supervisor();
  return engine;
}

ProcessEngine::ProcessEngine(EngineOptions options)
    : owner_(memory::self()),
      options_(std::move(options)),
      board_ref_(
          memory::create<TaskBoard>(memory::Kind::board, 0, options_.workers * sizeof(WorkerEntry), options_.workers)),
      board_(&board_ref_.as<TaskBoard>()),
      workers_(options_.workers) {
  for (std::uint32_t i = 0; i < options_.workers; ++i) new (&board_->worker(i)) WorkerEntry{};
  if (options_.initializer.run.module != 0) {
    pickle::Writer out;
    options_.initializer.dump(out);
    initializer_ = seal(out, nullptr);
  }
}

ProcessEngine::~ProcessEngine() {
  if (memory::self() != owner_) {  // a copy in a fork child: neither thread nor server is there
    new (&supervisor_) std::thread;
    static_cast<void>(server_.release());
    return;
  }
  if (supervisor_.joinable()) {
    terminate();
    supervisor_.join();
  }
  discard(initializer_);
}

void ProcessEngine::check_owner() const {
  if (memory::self() != owner_) throw Error("this pool belongs to another process: a child makes a pool of its own");
}

void ProcessEngine::close(bool cancel) {
  check_owner();
  {
    std::lock_guard guard(mutex_);
    if (mode_ == Mode::open) mode_ = Mode::closing;
  }
  if (cancel) cancel_waiting();
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
  std::lock_guard guard(join_mutex_);
  if (supervisor_.joinable()) supervisor_.join();
}

std::vector<pid_t> ProcessEngine::worker_pids() {
  std::vector<pid_t> pids;
  std::lock_guard guard(workers_mutex_);
  for (auto& w : workers_)
    if (!w.ended)
      if (pid_t pid = w.record.as<process::Record>().pid.load(std::memory_order_acquire)) pids.push_back(pid);
  return pids;
}

// ---- slots ----------------------------------------------------------------------------------------------------------

std::uint32_t ProcessEngine::take_slot() {
  check_owner();
  std::lock_guard guard(mutex_);
  if (mode_ == Mode::broken) std::rethrow_exception(broken_);
  if (mode_ != Mode::open) throw Error("cannot schedule new tasks after shutdown");
  if (free_.empty()) {
    std::uint32_t first = board_->grow();
    slots_ = first + TaskBoard::kSlotsInSegment;
    free_.reserve(slots_);
    for (std::uint32_t i = TaskBoard::kSlotsInSegment; i-- > 0;) free_.push_back(first + i);
  }
  std::uint32_t index = free_.back();
  free_.pop_back();
  return index;
}

void ProcessEngine::line_up(std::uint32_t index, const TaskOptions& options) {
  Slot& s = board_->slot(index);
  s.outcome = Outcome::value;
  s.timeout = options.timeout.forever()
                  ? 0
                  : static_cast<std::uint64_t>(std::max<std::int64_t>(1, options.timeout.left().count()));
  s.attempts_left = static_cast<std::uint8_t>(std::min(options.retries, 255u));
  {
    std::lock_guard guard(mutex_);
    if (mode_ != Mode::open) throw Error("cannot schedule new tasks after shutdown");
    if (!options.name.empty()) names_[index] = options.name;
    s.number = ++posted_;
    board_->post(index);
    if (s.timeout && ++timed_ == 1) board_->signal();  // the supervisor begins to look at clocks
  }
  board_->ring(false);
}

void ProcessEngine::give_back(std::uint32_t index) noexcept {
  Slot& s = board_->slot(index);
  bool timed = std::exchange(s.timeout, 0) != 0;
  free_parcels(s);
  board_->recycle(index);
  std::lock_guard guard(mutex_);
  if (timed && timed_ > 0) --timed_;
  if (!names_.empty()) names_.erase(index);
  if (!lost_.empty()) lost_.erase(index);
  free_.push_back(index);  // has room: reserved with the slots
}

void ProcessEngine::watch(const Ticket& ticket, std::shared_ptr<SlotTask> task) {
  std::lock_guard guard(mutex_);
  bool first = watched_.empty();
  watched_[ticket.slot] = std::move(task);
  if (first) board_->signal();
}

void ProcessEngine::unwatch(const Ticket& ticket) noexcept {
  std::shared_ptr<SlotTask> last;  // let go outside of the lock
  std::lock_guard guard(mutex_);
  if (auto found = watched_.find(ticket.slot); found != watched_.end()) {
    last = std::move(found->second);
    watched_.erase(found);
  }
}

void ProcessEngine::abandon(const Ticket& ticket) noexcept {
  if (memory::self() != owner_) return;
  Slot& s = board_->slot(ticket.slot);
  std::uint64_t was = s.state.fetch_or(word::kReport, std::memory_order_acq_rel);
  if (word::phase(was) >= Phase::done) give_back(ticket.slot);
}

std::exception_ptr ProcessEngine::error_of(std::uint32_t slot) {
  Slot& s = board_->slot(slot);
  std::string name;
  {
    std::lock_guard guard(mutex_);
    if (auto found = lost_.find(slot); found != lost_.end()) return found->second;
    if (auto found = names_.find(slot); found != names_.end()) name = found->second;
  }
  if (s.outcome == Outcome::no_room)
    return std::make_exception_ptr(
        SharedMemoryFull(s.result.size, memory::usage().committed, memory::usage().capacity));
  if (s.outcome != Outcome::exception) return nullptr;  // cancelled before it began
  pickle::Reader in(payload(s.result, s.place));
  return load_failure(in, s.number, name);
}

void ProcessEngine::add_job(memory::Offset job, std::weak_ptr<JobControl> control) {
  std::lock_guard guard(mutex_);
  jobs_[job] = std::move(control);
}

void ProcessEngine::remove_job(memory::Offset job) noexcept {
  std::lock_guard guard(mutex_);
  jobs_.erase(job);
}

}  // namespace mp::pool
