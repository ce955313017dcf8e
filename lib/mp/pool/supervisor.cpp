#include "mp/pool/supervisor.hpp"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "mp/memory/family.hpp"
#include "mp/os/call.hpp"
#include "mp/os/clock.hpp"
#include "mp/os/life.hpp"
#include "mp/os/threads.hpp"
#include "mp/pool/describe.hpp"
#include "mp/pool/failure.hpp"
#include "mp/pool/job_control.hpp"
#include "mp/pool/worker.hpp"

namespace mp::pool {
namespace {

// So many workers in a row that die before they are ready end the pool instead of being replaced for ever. Where somebody
// sent the signal, that says nothing about the next one, so those count only when no worker gets ready for a while.
constexpr unsigned kMostFailedStarts = 3;
constexpr std::int64_t kKilledTooLong = 2'000'000'000;  // ns
// For how long a kill of the OOM killer may be a worker's, ns, also where nothing happens in the pool: a read each costs an idle one a third
// of its CPU time.
constexpr std::int64_t kOomLook = 1'000'000'000, kIdleOomLook = 10'000'000'000;
// A worker that is refused is tried again after a pause of so many ns, twice as long each time; a pool without any worker waits so
// long before it gives up.
constexpr std::int64_t kFirstPause = 10'000'000, kLongestPause = 500'000'000, kLackingTooLong = 2'000'000'000;
// Nothing under way: only news wakes the supervisor. But nobody tells of the death of the server and, with it, of the workers.
constexpr std::chrono::nanoseconds kIdle = std::chrono::seconds(1);
// While some task has a time limit.
constexpr std::chrono::nanoseconds kClockLook = std::chrono::milliseconds(5);
// When a zygote is asked for its first heir, and how soon after one for the next, ns. What ends sooner needs none.
constexpr std::int64_t kFirstHeir = 10'000'000, kHeirPause = 100'000'000;
// How long a pool's end waits for an heir that is being forked: given up in the midst of that, its place would stay taken for seconds.
constexpr std::chrono::nanoseconds kBirth = std::chrono::milliseconds(100);

bool over(process::Phase phase) noexcept {
  return phase != process::Phase::requested && phase != process::Phase::running;
}

// Not begun, because the kernel refused the process or what it needs to begin.
bool refused(const process::Record& record) noexcept {
  return process::status_of(record).phase() == process::Phase::failed ||
         record.refused.load(std::memory_order_acquire) != 0;
}

// Ended from outside, not by what it ran: a signal that somebody sends, or its server's death, with which nobody may know its exit code.
bool ended_from_outside(const process::Record& record) noexcept {
  process::Status status = process::status_of(record);
  int code = status.code();
  return status.phase() == process::Phase::abandoned || !memory::alive(record.server) ||
         (status.phase() == process::Phase::ended && (code == -SIGKILL || code == -SIGTERM));
}

thread_local const Supervisor* supervisor_here = nullptr;

}  // namespace

process::Record& Supervisor::record_of(const memory::Ref& ref) noexcept { return ref.as<process::Record>(); }

os::UniqueFd Supervisor::hold(const process::Record& record) noexcept {
  try {
    os::UniqueFd fd = process::pidfd_of(record);
    return memory::alive(record.tag) ? std::move(fd) : os::UniqueFd();
  } catch (const OSError&) {
    return {};
  }
}

Supervisor::Supervisor(ProcessEngine& engine, EngineOptions options)
    : engine_(engine),
      board_(engine.board()),
      options_(std::move(options)),
      forks_(options_.context.method() == StartMethod::fork),
      oom_(os::OomCounter::of(::getpid())),
      workers_(options_.workers) {
  if (options_.initializer.run.module != 0) {
    pickle::Writer out;
    options_.initializer.dump(out);
    seal(out, nullptr, initializer_);
  }
  try {
    start_server();
    try {
      for (std::uint32_t i = 0; i < workers_.size(); ++i) launch(i);
    } catch (const Error&) {
      if (server_->usable()) throw;  // else it was killed meanwhile, and the thread starts another
    }
    next_heir_at_ = os::monotonic_now().count() + kFirstHeir;
    start_thread();
  } catch (...) {
    discard(initializer_);
    throw;
  }
}

Supervisor::~Supervisor() { discard(initializer_); }

void Supervisor::forget() noexcept {
  new (&thread_) std::thread;
  static_cast<void>(server_.release());
}

bool Supervisor::is_this_thread() const noexcept { return supervisor_here == this; }

void Supervisor::join() {
  std::lock_guard guard(join_mutex_);
  if (thread_.joinable()) thread_.join();
}

void Supervisor::start_server() {
  if (heir_) {
    server_ = std::make_unique<process::Server>(process::Server::succeed(std::exchange(heir_, {})));
    if (server_->usable()) return;
  }
  const std::string name = options_.worker_name + "-server";
  server_ = std::make_unique<process::Server>(forks_ ? process::Server::zygote(name) : process::Server::clean(name));
}

bool Supervisor::lacks_heir() const noexcept {
  return forks_ && (!heir_ || over(process::status_of(record_of(heir_)).phase()));
}

// Sees to it that a zygote has one to go on in its place.
void Supervisor::keep_heir() noexcept {
  if (!lacks_heir()) return;
  const std::int64_t now = os::monotonic_now().count();
  if (now < next_heir_at_) return;
  next_heir_at_ = now + kHeirPause;
  try {
    heir_ = server_->launch_heir({.name = options_.worker_name + "-server",
                                  .bell = memory::offset_of(&board_.signal_word()),
                                  .bell_object = engine_.board_ref_});
  } catch (const Error&) {  // the zygote is dead, or nothing can be made now
  }
}

// While its parent lives to reap it.
void Supervisor::end_heir() noexcept {
  if (!heir_) return;
  const memory::Ref heir = std::exchange(heir_, {});
  process::Record& record = record_of(heir);
  process::await_started(heir, os::Deadline(kBirth));
  try {
    process::Server::succeed(heir).shutdown();
  } catch (const OSError&) {  // no descriptor for it
    const pid_t pid = record.pid.load(std::memory_order_acquire);
    if (memory::alive(record.tag)) os::call_again(os::Call::kill, [&] { return ::kill(pid, SIGKILL); });
  }
  memory::retire(record.tag);
}

void Supervisor::start_thread() {
  thread_ = os::start_quiet_thread("the supervisor of a pool", [this] {
    os::LibraryThread ours;
    ::pthread_setname_np(::pthread_self(), "mp-supervisor");
    supervisor_here = this;
    supervise();
    if (retire_after_) {
      thread_.detach();
      engine_.wait_for_tasks();
    }
  });
}

std::vector<pid_t> Supervisor::worker_pids() {
  std::vector<pid_t> pids;
  std::lock_guard guard(workers_mutex_);
  for (auto& w : workers_)
    if (!w.ended)
      if (pid_t pid = record_of(w.record).pid.load(std::memory_order_acquire)) pids.push_back(pid);
  return pids;
}

void Supervisor::add_job(memory::Offset job, std::weak_ptr<JobControl> control) {
  std::lock_guard guard(jobs_mutex_);
  jobs_[job] = std::move(control);
}

void Supervisor::remove_job(memory::Offset job) noexcept {
  std::lock_guard guard(jobs_mutex_);
  jobs_.erase(job);
}

void Supervisor::launch(std::uint32_t index) {
  Worker fresh;
  fresh.start =
      memory::create<WorkerStart>(memory::Kind::engine, 0, 0,
                                  WorkerStart{engine_.board_ref_.offset(), index, options_.most_tasks,
                                              options_.initializer.run, initializer_.block, initializer_.size});
  WorkerEntry& entry = board_.worker(index);
  discard(entry.failure);
  entry.intent.store(0, std::memory_order_relaxed);
  entry.item.store(0, std::memory_order_relaxed);
  entry.since.store(0, std::memory_order_relaxed);
  entry.ordered.store(0, std::memory_order_relaxed);
  board_.forget_idle(index);
  entry.phase.store(static_cast<std::uint32_t>(WorkerPhase::starting), std::memory_order_release);
  fresh.record = server_->launch(&work, fresh.start,
                                 {.name = options_.worker_name + "-" + std::to_string(++launched_),
                                  .bell = memory::offset_of(&board_.signal_word()),
                                  .bell_object = engine_.board_ref_});
  fresh.ended = false;
  fresh.launched_at = os::monotonic_now().count();
  std::lock_guard guard(workers_mutex_);
  workers_[index] = std::move(fresh);
}

// ---- the loop -------------------------------------------------------------------------------------------------------

void Supervisor::supervise() noexcept {
  for (std::uint32_t seen = 0;;) {
    const std::uint32_t last = seen;
    seen = board_.signalled();
    report();
    bool living = check_workers();
    forget_old_oom_kills(seen == last ? kIdleOomLook : kOomLook);  // after those who died have claimed theirs
    check_limits();
    const Mode mode = engine_.mode_.load(std::memory_order_acquire);
    if (mode == Mode::terminating || mode == Mode::broken) {
      lose_waiting(mode);
      if (!living) break;
      kill_workers();
    } else if (mode == Mode::closing && !living && !board_.pending()) {
      break;
    } else {
      replace_workers();
      keep_heir();
    }
    wait_for_news(seen);
  }
  report();
  end_heir();
  server_->shutdown();
  // Killed like that, it may have been about to retire the last of its children, or to fork another.
  for (Worker& w : workers_) {
    if (!w.record) continue;
    process::give_up(record_of(w.record));
    memory::retire(record_of(w.record).tag);
  }
}

void Supervisor::wait_for_news(std::uint32_t seen) noexcept {
  bool starting = false;
  for (std::uint32_t i = 0; i < workers_.size(); ++i)
    starting |= !workers_[i].ended && board_.worker(i).phase.load(std::memory_order_relaxed) ==
                                          static_cast<std::uint32_t>(WorkerPhase::starting);
  std::chrono::nanoseconds limit = kIdle;
  if (board_.more_hands(os::monotonic_now())) limit = std::chrono::milliseconds(1);
  else if (starting || board_.busy() || board_.pending() || engine_.mode_.load(std::memory_order_relaxed) != Mode::open)
    limit = os::kSlice;
  if (engine_.timed_.load(std::memory_order_relaxed) > 0) limit = std::min(limit, kClockLook);
  const auto not_after = [&limit](std::int64_t at) {
    const std::chrono::nanoseconds left = std::chrono::nanoseconds(at) - os::monotonic_now();
    limit = std::min(limit, std::max(left, std::chrono::nanoseconds(1'000'000)));
  };
  if (refused_ > 0) not_after(retry_at_);
  if (engine_.mode_.load(std::memory_order_relaxed) == Mode::open && lacks_heir()) not_after(next_heir_at_);
  board_.wait_signal(seen, limit);
}

// ---- tasks that are done --------------------------------------------------------------------------------------------

void Supervisor::report() noexcept {
  // Newest first. A list that a worker has damaged ends where it names no slot, or after as many as there are.
  std::uint32_t next = board_.take_reported(), first = 0;
  for (std::uint32_t left = engine_.slots_.load(std::memory_order_acquire); next && left > 0; --left) {
    SlotTask* task = engine_.try_task(next - 1);
    if (task == nullptr) break;
    std::uint32_t after = task->slot().next.load(std::memory_order_relaxed);
    task->slot().next.store(first, std::memory_order_relaxed);
    first = std::exchange(next, after);
  }
  for (std::uint32_t left = engine_.slots_.load(std::memory_order_acquire); first && left > 0; --left) {
    std::uint32_t slot = first - 1;
    SlotTask* task = engine_.try_task(slot);
    if (task == nullptr) break;
    Slot& s = task->slot();
    first = s.next.load(std::memory_order_relaxed);
    report_one(slot, word::generation(s.state.load(std::memory_order_acquire)));
  }
}

void Supervisor::report_one(std::uint32_t slot, std::uint32_t generation) noexcept {
  SlotTask& task = engine_.task(slot);
  if (task.claim_abandoned(generation)) engine_.give_back(task);
  else task.run_callbacks();
}

// Takes every posted task out of line and ends it, when the pool is at its end.
void Supervisor::lose_waiting(Mode mode) noexcept {
  const auto why =
      mode == Mode::broken ? engine_.broken_ : std::make_exception_ptr(CancelledError("the pool was terminated"));
  engine_.lose_waiting(why, mode == Mode::broken ? Phase::done : Phase::cancelled);
  report();
}

// ---- workers --------------------------------------------------------------------------------------------------------

bool Supervisor::check_workers() noexcept {
  bool living = false, served = server_->usable();
  for (std::uint32_t i = 0; i < workers_.size(); ++i) {
    Worker& w = workers_[i];
    if (w.ended) continue;
    process::Record& record = record_of(w.record);
    process::Phase phase = process::status_of(record).phase();
    if (!served && !over(phase)) {
      // The server is gone and its workers with it: nobody else will say how they ended.
      if (process::give_up(record)) {
        phase = process::Phase::abandoned;
      } else if (!memory::alive(record.tag)) {
        // By the kernel for its server's end, unless it had a word of its own.
        std::int32_t nobody = 0;
        record.told.compare_exchange_strong(nobody, SIGKILL, std::memory_order_relaxed);
        process::conclude(record, hold(record).get());
        phase = process::Phase::ended;
      }
    }
    if (over(phase)) bury(i);
    else living = true;
    if (board_.worker(i).phase.load(std::memory_order_acquire) == static_cast<std::uint32_t>(WorkerPhase::ready)) {
      failed_starts_ = 0;
      if (!w.group_known) {
        w.group_known = true;
        w.group = oom_.group_of(record.pid.load(std::memory_order_acquire));
      }
      if (w.launched_at > last_refusal_) refused_ = 0, lacking_since_ = 0;
    }
  }
  return living;
}

// Settles what a dead worker leaves: its task, and what its end says about the pool.
void Supervisor::bury(std::uint32_t index) noexcept {
  report();  // its own last reports first: then its slot stands in no list
  WorkerEntry& entry = board_.worker(index);
  auto phase = static_cast<WorkerPhase>(entry.phase.load(std::memory_order_acquire));
  const Intent intent{entry.intent.load(std::memory_order_acquire)};
  bool settled = false;
  if (SlotTask* task = intent.names_a_task() ? engine_.try_task(intent.slot()) : nullptr) {
    std::uint64_t state = task->slot().state.load(std::memory_order_acquire);
    if (word::generation(state) == intent.generation()) {
      settled = word::phase(state) == Phase::claimed && word::worker(state) == index;
      if (settled) settle_victim(index, *task);
      // Killed between the end of its task and the report of it.
      else if (word::phase(state) == Phase::done) report_one(intent.slot(), intent.generation());
    }
  }
  // A worker whose memory is damaged may have said anything: what it has claimed says the slot. It had one task at most.
  const std::uint32_t slots = settled ? 0 : engine_.slots_.load(std::memory_order_acquire);
  for (std::uint32_t slot = 0; slot < slots; ++slot) {
    SlotTask& task = engine_.task(slot);
    const std::uint64_t state = task.slot().state.load(std::memory_order_acquire);
    if (word::phase(state) == Phase::claimed && word::worker(state) == index) settle_victim(index, task);
  }
  std::string why, refusal;
  if (phase == WorkerPhase::failed) {
    why = "the initializer of a worker failed";
    try {
      std::rethrow_exception(load_failure(entry.failure, 0, {}));
    } catch (const std::exception& e) {
      why += std::string(": ") + e.what();
    } catch (...) {}
  } else if (phase == WorkerPhase::starting && workers_[index].reason == Reason::none) {
    const process::Record& record = record_of(workers_[index].record);
    if (refused(record)) refusal = end_text(record);
    else if (too_many_failed_starts(ended_from_outside(record)))
      why = std::to_string(failed_starts_) +
            " workers in a row ended before they could work; the last: " + end_text(record);
  }
  board_.forget_idle(index);
  entry.phase.store(static_cast<std::uint32_t>(WorkerPhase::absent), std::memory_order_relaxed);
  {
    std::lock_guard guard(workers_mutex_);
    workers_[index].ended = true;
  }
  if (!why.empty()) break_pool(why);
  else if (!refusal.empty()) put_off(refusal);
}

// The task that a dead worker ran: charged to it, tried again, or, in a chunk, charged to the one item.
void Supervisor::settle_victim(std::uint32_t index, SlotTask& task) noexcept {
  Slot& s = task.slot();
  WorkerEntry& entry = board_.worker(index);
  Worker& w = workers_[index];
  std::exception_ptr error = why_lost(index, task);
  bool cancelled = w.reason == Reason::cancel;
  try {
    if (s.is(rare::kChunk) && !cancelled) {
      ChunkHead head{};
      pickle::Reader(s.argument_payload()).read(&head, sizeof head, "chunk");
      std::shared_ptr<JobControl> job;
      {
        std::lock_guard guard(jobs_mutex_);
        if (auto found = jobs_.find(head.job); found != jobs_.end()) job = found->second.lock();
      }
      const std::optional<std::uint64_t> item = unfinished_item(s, entry.item.load(std::memory_order_acquire));
      if (job && item && *item < job->items()) {
        job->charge(*item, error);
        return engine_.post_again(task, index);
      }
      // Before the first item and after the last none is to blame; but a chunk that kills every worker before its first item is.
      if (job && s.attempts_left > 0) {
        --s.attempts_left;
        return engine_.post_again(task, index);
      }
    } else if (!cancelled && s.attempts_left > 0) {
      --s.attempts_left;
      return engine_.post_again(task, index);
    }
  } catch (const Error&) {
    // No room to put it in line again, or its arguments are damaged: it ends with the error it has.
  }
  engine_.lose(task, std::move(error), cancelled ? Phase::cancelled : Phase::done);
}

// Counts one more start that came to nothing.
bool Supervisor::too_many_failed_starts(bool by_others) noexcept {
  const std::int64_t now = os::monotonic_now().count();
  if (++failed_starts_ == 1) failing_since_ = now;
  return failed_starts_ >= kMostFailedStarts && (!by_others || now - failing_since_ >= kKilledTooLong);
}

// A worker was refused: the others go on, and it is tried again, for ever as long as there are others.
void Supervisor::put_off(const std::string& why) noexcept {
  const std::int64_t now = os::monotonic_now().count();
  last_refusal_ = now;
  retry_at_ = now + std::min(kFirstPause << std::min(refused_++, 10u), kLongestPause);
  const bool any = std::any_of(workers_.begin(), workers_.end(), [](const Worker& w) {
    return !w.ended && process::status_of(record_of(w.record)).phase() == process::Phase::running;
  });
  if (any) lacking_since_ = 0;
  else if (lacking_since_ == 0) lacking_since_ = now;
  else if (now - lacking_since_ >= kLackingTooLong) break_pool("no worker can be started: " + why);
}

void Supervisor::replace_workers() noexcept {
  const Mode mode = engine_.mode_.load(std::memory_order_acquire);
  if (mode != Mode::open && !(mode == Mode::closing && board_.pending())) return;
  if (std::none_of(workers_.begin(), workers_.end(), [](const Worker& w) { return w.ended; })) return;
  if (refused_ > 0 && os::monotonic_now().count() < retry_at_) return;
  bool served = server_->usable();
  try {
    bool living = std::any_of(workers_.begin(), workers_.end(), [](const Worker& w) { return !w.ended; });
    if (!served) {
      if (living) return;  // they are ending with their server
      start_server();
      served = true;
    }
    for (std::uint32_t i = 0; i < workers_.size(); ++i)
      if (workers_[i].ended) {
        launch(i);
        if (refused_ > 0) break;  // one, to see whether it goes again
      }
  } catch (const std::exception& e) {
    if (served && !server_->usable()) {  // it was killed in the midst of it
      if (too_many_failed_starts(true)) break_pool(std::string("no worker can be started: ") + e.what());
    } else {
      put_off(e.what());
    }
  }
}

void Supervisor::break_pool(const std::string& why) noexcept {
  {
    std::lock_guard guard(engine_.line_mutex_);
    if (engine_.mode_ == Mode::broken || engine_.mode_ == Mode::terminating) return;
    engine_.broken_ = std::make_exception_ptr(BrokenProcessPool("the process pool is broken: " + why));
    engine_.mode_ = Mode::broken;
  }
  board_.close(true);
  lose_waiting(Mode::broken);
}

void Supervisor::kill_workers() noexcept {
  std::int64_t now = os::monotonic_now().count();
  for (auto& w : workers_) {
    if (w.ended) continue;
    if (w.reason == Reason::none) w.reason = Reason::cancel;
    process::Record& record = record_of(w.record);
    if (process::give_up(record)) continue;  // not yet forked: never will be
    os::UniqueFd fd = hold(record);
    if (!fd) continue;
    if (w.term_at == 0) {
      w.term_at = now;
      os::send_signal(fd.get(), SIGTERM);
    } else if (now - w.term_at > kGrace) {
      os::send_signal(fd.get(), SIGKILL);
    }
  }
}

std::exception_ptr Supervisor::why_lost(std::uint32_t index, SlotTask& task) {
  Worker& w = workers_[index];
  if (w.reason == Reason::cancel)
    return std::make_exception_ptr(CancelledError("the task was cancelled and its worker killed"));
  std::string name;
  {
    std::lock_guard guard(engine_.extras_mutex_);
    if (task.extras_) name = task.extras_->name;
  }
  CrashDetails details = details_of(record_of(w.record));
  details.task = task.number_;
  details.task_name = std::move(name);
  Slot& s = task.slot();
  if (s.is(rare::kChunk)) details.item = unfinished_item(s, board_.worker(index).item.load(std::memory_order_acquire));
  std::span<const std::byte> arguments;
  try {
    arguments = s.argument_payload();
  } catch (const UnpicklingError&) {  // the worker has overwritten them
  }
  Description call = describe_call(s.run, arguments, details.item.value_or(0));
  details.function = std::move(call.function);
  if (!s.is(rare::kChunk) || details.item) details.arguments = std::move(call.arguments);
  details.limit = limit_passed(index, s, details);
  if (details.limit == Limit::none) {
    // Whether the OOM killer did it; only where nobody of us did.
    if (details.signal == SIGKILL && record_of(w.record).told.load(std::memory_order_relaxed) != SIGKILL) {
      details.oom_kills = oom_.claim(w.group);
      if (details.oom_kills) details.oom_counter = oom_.counter_file(w.group);
    }
    return std::make_exception_ptr(WorkerCrashed(std::move(details)));
  }
  const Limits limits = engine_.limits_of_slot(task.index());
  switch (details.limit) {
    case Limit::wall_time: details.allowed = limits.wall_time; break;
    case Limit::cpu_time: details.allowed = limits.cpu_time; break;
    default: details.allowed = limits.file_size; break;
  }
  if (details.limit != Limit::file_size) details.used = w.order.used;
  if (details.limit == Limit::wall_time) return std::make_exception_ptr(TaskTimeout(std::move(details)));
  return std::make_exception_ptr(LimitExceeded(std::move(details)));
}

void Supervisor::forget_old_oom_kills(std::int64_t age) noexcept {
  const std::int64_t now = os::monotonic_now().count();
  if (now - oom_looked_at_ < age) return;
  oom_looked_at_ = now;
  oom_.forget_unclaimed();
}

}  // namespace mp::pool
