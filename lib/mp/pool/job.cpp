#include "mp/pool/job.hpp"

#include <algorithm>

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
  if (job.own_input && job.input) memory::deallocate(job.input);
  if (job.cells && job.output) {
    for (std::uint64_t i = 0; i < job.items; ++i) discard(memory::at<Cell>(job.output)[i].parcel);
  }
  if (job.output) memory::deallocate(job.output);
  while (memory::Offset failure = job.failures.load(std::memory_order_acquire)) {
    Failure& f = *memory::at<Failure>(failure);
    job.failures.store(f.next, std::memory_order_relaxed);
    discard(f.parcel);
    memory::deallocate(failure);
  }
}
const bool registered = memory::set_destroyer(memory::Kind::job, destroy_job);

}  // namespace

memory::Ref create_job(std::uint64_t items, std::chrono::nanoseconds timeout) {
  static_assert(static_cast<int>(ItemState::waiting) == 0);
  memory::Ref ref = memory::create_filled<Job>(memory::Content::zero, memory::Kind::job, 0, items);
  Job& job = ref.as<Job>();
  job.items = items;
  job.timeout = static_cast<std::uint64_t>(timeout.count());
  return ref;
}

ChunkRun::ChunkRun(pickle::Reader& in) : entry_(this_worker()) {
  in.read(&head_, sizeof head_, "chunk");
  if (!entry_ || !memory::is_object(head_.job, memory::Kind::job)) throw UnpicklingError("a chunk names no job");
  job_ = memory::at<Job>(head_.job);
  if (head_.begin > head_.end || head_.end > job_->items) throw UnpicklingError("a chunk lies outside its job");
}

ChunkRun::~ChunkRun() {
  entry_->item.store(0, std::memory_order_release);
  entry_->since.store(0, std::memory_order_release);
}

void ItemLog::start_clock(WorkerEntry& entry) noexcept {
  entry.since.store(static_cast<std::uint64_t>(os::monotonic_now().count()), std::memory_order_release);
}

void ChunkRun::store(std::uint64_t item, pickle::Writer& result) {
  Cell& cell = memory::at<Cell>(job_->output)[item];
  cell.parcel = seal(result, cell.place);
}

void ItemLog::failed(std::uint64_t item) const noexcept {
  try {
    memory::Offset block = memory::allocate(sizeof(Failure));
    Failure& f = *new (memory::at<void>(block)) Failure{0, item, {}};
    try {
      pickle::Writer out;
      dump_failure(out);
      f.parcel = seal(out, nullptr);
    } catch (...) {
      // No room even for the exception: the owner finds an empty parcel and says so.
    }
    f.next = job_->failures.load(std::memory_order_relaxed);
    while (!job_->failures.compare_exchange_weak(f.next, block, std::memory_order_acq_rel)) {}
  } catch (const SharedMemoryFull&) {
    // The owner finds no failure for the item and says that shared memory was full.
  }
  job_->flawed.store(1, std::memory_order_relaxed);
  done(item, ItemState::exception);
}

void announce_progress(Job& job) noexcept {
  job.progress.fetch_add(1, std::memory_order_seq_cst);
  if (job.waited.exchange(0, std::memory_order_seq_cst)) os::futex_wake(job.progress, os::kAll);
}

Parcel* failure_of(Job& job, std::uint64_t item) noexcept {
  for (memory::Offset at = job.failures.load(std::memory_order_acquire); at;) {
    Failure& f = *memory::at<Failure>(at);
    if (f.item == item) return &f.parcel;
    at = f.next;
  }
  return nullptr;
}

std::uint64_t ChunkSizes::next(std::uint64_t left) noexcept {
  const std::uint64_t size = std::clamp<std::uint64_t>(left / (2 * std::uint64_t{workers_}), 1, most_);
  if (size == most_) most_ *= 2;
  return size;
}

}  // namespace mp::pool
