#include "mp/pool/job.hpp"

#include <algorithm>
#include <utility>

#include "mp/errors.hpp"
#include "mp/os/clock.hpp"
#include "mp/os/futex.hpp"
#include "mp/pool/failure.hpp"
#include "mp/pool/worker.hpp"

namespace mp::pool {
namespace {

// The last reference is gone: everything the job owns goes with it.
void destroy_job(void* object) noexcept {
  Job& job = *static_cast<Job*>(object);
  discard(job.function);
  if (job.own_input) memory::try_deallocate_recorded(job.input);
  if (job.cells) {
    const std::uint64_t items = job.items;
    if (Cell* cells = memory::array_at<Cell>(job.output, items))
      for (std::uint64_t i = 0; i < items; ++i) discard(cells[i].parcel);
  }
  memory::try_deallocate_recorded(job.output);
  // Each is freed as it is passed, so that a list that leads back to itself ends there.
  while (Failure* f = memory::array_at<Failure>(job.failures.load(std::memory_order_acquire), 1)) {
    const memory::Offset failure = memory::offset_of(f);
    discard(f->parcel);
    job.failures.store(f->next, std::memory_order_relaxed);
    if (!memory::try_deallocate(failure)) break;
  }
}
const bool registered = memory::set_destroyer(memory::Kind::job, destroy_job, alignof(Job));

}  // namespace

memory::Ref create_job(std::uint64_t items, const Limits& limits) {
  static_assert(static_cast<int>(ItemState::waiting) == 0);
  memory::Ref ref = memory::create_filled<Job>(memory::Content::zero, memory::Kind::job, 0, items);
  Job& job = ref.as<Job>();
  job.items = items;
  job.limits = limits;
  job.limited = limits.any();
  return ref;
}

std::uint64_t Job::first_waiting(std::uint64_t from, std::uint64_t end) noexcept {
  while (from < end && states()[from].load(std::memory_order_acquire) != static_cast<std::uint8_t>(ItemState::waiting))
    ++from;
  return from;
}

namespace {

// The job of a chunk, all of whose items have their places there; null if it names none.
Job* job_of(const ChunkHead& head) noexcept {
  Job* const job = memory::try_object<Job>(head.job, memory::Kind::job);
  if (job == nullptr || head.begin > head.end || head.end > memory::room_at(head.job) - sizeof(Job) ||
      head.end > job->items)
    return nullptr;
  return job;
}

}  // namespace

std::optional<std::uint64_t> unfinished_item(const Slot& chunk, std::uint64_t begun) noexcept {
  try {
    ChunkHead head{};
    pickle::Reader(chunk.argument_payload()).read(&head, sizeof head, "chunk");
    Job* const job = job_of(head);
    if (job == nullptr || begun <= head.begin || begun > head.end) return std::nullopt;
    // With limits its entry names it: who passed one had not gone on to the next.
    const std::uint64_t item = begun - 1, end = job->limited ? begun : head.end,
                        waiting = job->first_waiting(item, end);
    return waiting < end ? std::optional(waiting) : std::nullopt;
  } catch (const UnpicklingError&) {
    return std::nullopt;
  }
}

ChunkRun::ChunkRun(pickle::Reader& in) : entry_(this_worker()) {
  in.read(&head_, sizeof head_, "chunk");
  job_ = job_of(head_);
  if (!entry_ || !job_) throw UnpicklingError("a chunk names no job, or lies outside of it");
}

void refuse_array() {
  throw UnpicklingError("a chunk's items or results are not where they should be in shared memory");
}

ChunkRun::~ChunkRun() {
  entry_->item.store(0, std::memory_order_release);
  log().pause();
}

void ItemLog::failed(std::uint64_t item) const noexcept {
  pause();
  try {
    memory::NewBlock fresh(sizeof(Failure));
    Failure& f = *new (memory::at<void>(fresh.offset())) Failure{0, item, {}};
    try {
      pickle::Writer out;
      dump_failure(out, job_->limited ? told_as_limit(job_->limits) : std::current_exception());
      seal(out, nullptr, f.parcel);
    } catch (...) {
      // No room even for the exception: the owner finds an empty parcel and says so.
    }
    f.next = job_->failures.load(std::memory_order_relaxed);
    const memory::Offset block = fresh.hand_out();
    while (!job_->failures.compare_exchange_weak(f.next, block, std::memory_order_acq_rel)) {}
  } catch (const SharedMemoryFull&) {
    // The owner finds no failure for the item and says that shared memory was full.
  }
  job_->flawed.store(1, std::memory_order_relaxed);
  done(item, ItemState::exception);
}

void announce_progress(Job& job) noexcept {
  if ((job.attention.load(std::memory_order_relaxed) & Job::kWaited) == 0) return;
  job.progress.fetch_add(1, std::memory_order_seq_cst);
  if (job.attention.fetch_and(~Job::kWaited, std::memory_order_seq_cst) & Job::kWaited)
    os::futex_wake(job.progress, os::kAll);
}

Parcel failure_of(const Job& job, std::uint64_t item, std::uint64_t items) noexcept {
  memory::Offset at = job.failures.load(std::memory_order_acquire);
  for (std::uint64_t left = items; left > 0; --left) {  // no item fails twice
    const Failure* f = memory::array_at<Failure>(at, 1);
    if (f == nullptr) break;
    if (f->item == item) return f->parcel;
    at = f->next;
  }
  return {};
}

// A quarter of each worker's share of what is left: where few items take nearly all the time, as primes do among large numbers, the last
// worker is then done as early as with chunks of single items (README.md).
std::uint64_t ChunkSizes::next(std::uint64_t left) noexcept {
  const std::uint64_t size = std::clamp<std::uint64_t>(left / (4 * std::uint64_t{workers_}), 1, most_);
  if (size == most_) most_ *= 2;
  return size;
}

}  // namespace mp::pool
