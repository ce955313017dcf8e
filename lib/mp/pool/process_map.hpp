// A map on a process pool: the typed skin of jobs (job.hpp). Contiguous plain items go as one array, plain results come
// back as one; everything else is pickled, item by item.
#pragma once

#include <algorithm>
#include <cstring>
#include <iterator>
#include <memory>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "mp/os/backtrace.hpp"
#include "mp/os/spin.hpp"
#include "mp/pool/call.hpp"
#include "mp/pool/describe.hpp"
#include "mp/pool/job_control.hpp"
#include "mp/pool/map_source.hpp"
#include "mp/pool/pace.hpp"
#include "mp/pool/task.hpp"

namespace mp::pool {

// What lies as it is in an array that both sides see: no pointers can be in it that pickle would refuse.
template <class T>
concept PlainItem = std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T> &&
                    (std::is_arithmetic_v<T> || std::is_enum_v<T>);

// An item of a chunk is a message of its own behind its length: one that cannot be read costs none but itself, and one that is done is
// passed over unread. So a pointee that two items share becomes two.
template <class T>
void write_item(pickle::Writer& out, const T& item) {
  const std::size_t begin = out.size();
  out.put(std::uint64_t{0});
  pickle::dump(out, item);
  const std::uint64_t size = out.size() - begin - sizeof(std::uint64_t);
  out.patch(begin, &size, sizeof size);
  out.end_message();
}
inline std::span<const std::byte> next_item(pickle::Reader& in) {
  const auto size = in.get<std::uint64_t>("an item's size");
  return {in.take(size, "an item"), size};
}

// What a worker runs for a chunk.
template <bool Spread, class F, class T, bool Array>
void run_chunk(pickle::Reader& in, pickle::Writer&) {
  using R = ItemResult<Spread, F, T>;
  ChunkRun run(in);
  Job& job = run.job();
  pickle::Reader state(payload(job.function, {}));
  F f = pickle::load_called<F>(state);
  // Where each item's result goes, and where it is.
  using Output = std::conditional_t<!std::is_void_v<R> && !PlainItem<R>, Cell, Stored<R>>;
  Output* outs = nullptr;
  [[maybe_unused]] const T* ins = nullptr;
  if constexpr (!std::is_void_v<R>) outs = run.array<Output>(job.output);
  if constexpr (Array) ins = run.array<const T>(job.input);
  if constexpr (!std::is_void_v<R> && PlainItem<R>)
    if (outs != nullptr) memory::map_ahead(outs + run.begin(), (run.end() - run.begin()) * sizeof(R));
  auto call = [&](F& function, std::uint64_t i, [[maybe_unused]] Output* outputs, T&& item) {
    if constexpr (std::is_void_v<R>) {
      call_item<Spread>(function, std::move(item));
    } else if constexpr (PlainItem<R>) {
      outputs[i] = call_item<Spread>(function, std::move(item));
    } else {
      Cell& cell = outputs[i];
      pickle::Writer out(std::span<std::byte>(cell.place));
      pickle::dump(out, static_cast<const R&>(call_item<Spread>(function, std::move(item))));
      run.check_result(out.size());
      seal(out, cell.place, cell.parcel);
    }
  };
  // A worker that died may have come so far.
  std::uint64_t at = job.first_waiting(run.begin(), run.end());
  if constexpr (!Array)
    for (std::uint64_t i = run.begin(); i < at; ++i) next_item(in);
  run.log().begin(at);
  while (at < run.end() && !job.cancelled()) {
    try {
      os::call_watched([&] {
        // What the loop needs, in variables of its own: in registers, whatever is called.
        const ItemLog log = run.log();
        F& function = f;
        const std::uint64_t end = run.end();
        auto* const outputs = outs;
        if constexpr (Array) {
          const T* const inputs = ins;
          std::uint64_t i = at;
          do {
            log.start(i);
            call(function, i, outputs, T(inputs[i]));
          } while (log.done(i) && ++i < end);
        } else {
          do {
            log.prepare(at);
            pickle::Reader one(next_item(in));
            T item = pickle::load<T>(one);
            log.start(at);
            call(function, at, outputs, std::move(item));
          } while (log.done(at) && ++at < end);
        }
      });
      return;
    } catch (...) {
      if constexpr (Array) at = job.first_waiting(at, run.end());
      if (at == run.end()) return;  // as somebody else has written
      run.log().failed(at++);
    }
  }
}

// The item of a chunk as people read it.
template <bool Spread, class F, class T, bool Array>
void describe_item(pickle::Reader& in, std::uint64_t item, Description& out) {
  ChunkHead head;
  in.read(&head, sizeof head, "chunk");
  const Job* job = memory::try_object<Job>(head.job, memory::Kind::job);
  if (job == nullptr) return;
  pickle::Reader state(payload(job->function, {}));
  text::read_callable<F>(state, out);
  if (item < head.begin || item >= head.end) return;
  if constexpr (!text::has_text<T>()) {
    text::append_next<T>(out.arguments += '(', in, false);
    out.arguments += ')';
  } else {
    const auto append = [&](const T& value) {
      text::append_value(out.arguments, value);
      if constexpr (!Spread) out.arguments = '(' + out.arguments + ')';
    };
    if constexpr (Array) {
      append(array_of<const T>(job->input, item, item + 1)[item]);
    } else {
      for (std::uint64_t i = head.begin; i < item; ++i) next_item(in);
      pickle::Reader one(next_item(in));
      append(pickle::load<T>(one));
    }
  }
}

template <class R>
class ProcessMap final : public MapSource<R> {
 public:
  ProcessMap(std::shared_ptr<JobControl> control, memory::Offset output, std::vector<Held<SlotTask>> chunks,
             std::vector<std::uint64_t> ends)
      : control_(std::move(control)),
        output_(output),
        chunks_(std::move(chunks)),
        ends_(std::move(ends)) {}
  ~ProcessMap() override {
    cancel();
    if (control_->engine().is_owner()) control_->engine().remove_job(control_->ref().offset());
  }

  std::size_t size() const noexcept override { return control_->items(); }

  bool wait(std::size_t item, const os::Deadline& deadline) override {
    if (known(item)) return true;
    SlotTask& chunk = *chunks_[chunk_of(item)];
    while (!known(item) && chunk.look() < Phase::done) {
      if (pace_.keep(deadline)) continue;
      const auto limit = deadline.next(os::kSlice);
      if (limit == limit.zero()) return false;
      static thread_local os::Spinner spin;
      if (!spin([&] { return known(item); })) control_->sleep(item, limit);
      pace_.wait_has_ended();
    }
    return true;
  }

  // From the last chunk: it is done late, so that the others need no wait.
  bool wait_all(const os::Deadline& deadline) override {
    for (std::size_t i = chunks_.size(); i-- > 0;)
      if (!chunks_[i]->wait(deadline)) return false;
    return true;
  }

  Stored<R> take(std::size_t item) override {
    switch (control_->state(item)) {
      case ItemState::value: break;
      case ItemState::waiting: {  // its chunk ended without it
        if (auto e = chunks_[chunk_of(item)]->error()) std::rethrow_exception(e);
        throw CancelledError();
      }
      default: std::rethrow_exception(control_->error(item));
    }
    if constexpr (std::is_void_v<R>) {
      return {};
    } else if constexpr (PlainItem<R>) {
      return memory::at<R>(output_)[item];
    } else {
      Cell& cell = memory::at<Cell>(output_)[item];
      pickle::Reader in(payload(cell.parcel, cell.place));
      R value = pickle::load<R>(in);
      discard(cell.parcel);
      return value;
    }
  }

  void cancel() noexcept override {
    if (!control_->engine().is_owner()) return;  // a copy in a fork child
    control_->job().attention.fetch_or(Job::kCancelled, std::memory_order_release);
    for (auto& chunk : chunks_) chunk->cancel();
  }

  void on_done(std::function<void()> f) override {
    auto left = std::make_shared<std::atomic<std::size_t>>(chunks_.size() + 1);
    auto one = [left, f = std::move(f)] {
      if (left->fetch_sub(1, std::memory_order_acq_rel) == 1) f();
    };
    for (auto& chunk : chunks_) chunk->add_callback(one);
    one();
  }

  std::span<const Stored<R>> row(std::size_t item) const noexcept override {
    if constexpr (!std::is_void_v<R> && PlainItem<R>) {
      constexpr std::size_t kMost = 4096;
      const std::size_t limit = std::min(size(), item + kMost);
      std::size_t end = item;
      while (end < limit && control_->state(end) == ItemState::value) ++end;
      return {memory::at<const R>(output_) + item, end - item};
    } else {
      return {};
    }
  }

  const Stored<R>* array() const noexcept override {
    if constexpr (!std::is_void_v<R> && PlainItem<R>) {
      const Job& job = control_->job();
      for (const auto& chunk : chunks_)
        if (chunk->look() != Phase::done || chunk->error()) return nullptr;
      const bool whole = !job.flawed.load(std::memory_order_relaxed) && !job.cancelled();
      return whole ? memory::at<const R>(output_) : nullptr;
    } else {
      return nullptr;
    }
  }

 private:
  bool known(std::size_t item) const noexcept { return control_->state(item) != ItemState::waiting; }
  std::size_t chunk_of(std::size_t item) const noexcept {
    return static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), item) - ends_.begin());
  }

  std::shared_ptr<JobControl> control_;
  const memory::Offset output_;  // as in the job, which any process may have written to
  std::vector<Held<SlotTask>> chunks_;
  std::vector<std::uint64_t> ends_;  // one past the last item of each chunk
  Pace pace_;
};

template <class T>
void copy_items(T* to, const T* from, std::uint64_t begin, std::uint64_t end) {
  memory::map_ahead(to + begin, (end - begin) * sizeof(T));
  std::memcpy(to + begin, from + begin, (end - begin) * sizeof(T));
}

// Room made for a chunk before it is written, from what the last one took: no more than this, since one large item says little
// about the next.
inline constexpr std::size_t kMostReserved = 4u << 20;

// Starts a map of f over `items`, a sized range whose elements are values to send. Returns at once. Throws PicklingError,
// SharedMemoryFull, BrokenProcessPool, Error after shutdown.
template <bool Spread, class F, class Range>
auto map_items(ProcessEngine& engine, const MapOptions& options, const F& f, Range&& items) {
  using T = pickle::Sent<decltype(*std::begin(items))>;
  using R = ItemResult<Spread, F, T>;
  constexpr bool array = PlainItem<T> && requires { std::data(items); };
  static const pickle::CodeRef code =
      describable(pickle::code_ref(&run_chunk<Spread, F, T, array>), &describe_item<Spread, F, T, array>);

  const auto count = static_cast<std::uint64_t>(std::size(items));
  if constexpr (!std::is_void_v<R> && PlainItem<R>)
    if (options.limits.output != 0 && options.limits.output < sizeof(R))
      throw ValueError("the output limit of " + std::to_string(options.limits.output) +
                       " bytes is smaller than any result");
  auto control = std::make_shared<JobControl>(
      engine.shared_from_this(), create_job(count, limits_of(options.timeout, options.limits)), options.retries);
  Job& job = control->job();
  {
    pickle::Writer state;
    pickle::dump_callable(state, f);
    seal(state, nullptr, job.function);
  }
  if (count > 0) {
    if constexpr (!std::is_void_v<R>) {
      constexpr bool plain = PlainItem<R>;
      std::size_t bytes = count * (plain ? sizeof(Stored<R>) : sizeof(Cell));
      job.output = memory::NewBlock(bytes, 64).hand_out();
      if constexpr (!plain)
        for (std::uint64_t i = 0; i < count; ++i) new (memory::at<Cell>(job.output) + i) Cell{};
      job.cells = !plain;
    }
    if constexpr (array) {
      const auto* from = std::data(items);
      if (memory::contains(from)) {  // an mp::Array: it is where it shall be
        job.input = memory::offset_of(from);
      } else {
        job.input = memory::NewBlock(count * sizeof(T), 64).hand_out();
        job.own_input = true;
      }
    }
  }
  const memory::Offset output = job.output;
  engine.add_job(control->ref().offset(), control);

  std::vector<Held<SlotTask>> chunks;
  std::vector<std::uint64_t> ends;
  // A chunk that dies before its first item is put in line again this often.
  const TaskOptions chunk_options{.timeout = options.timeout, .retries = 2, .limits = options.limits};
  ChunkSizes sizes(engine.workers());
  std::size_t item_bytes = 0;  // of the last chunk, on average, with some to spare: what the next may need
  try {
    auto it = std::begin(items);
    for (std::uint64_t begin = 0; begin < count;) {
      const std::uint64_t left = count - begin;
      const std::uint64_t end = begin + std::min(left, options.chunksize ? options.chunksize : sizes.next(left));
      if constexpr (array)
        if (job.own_input) copy_items(memory::at<T>(job.input), std::data(items), begin, end);
      const ChunkHead head{control->ref().offset(), begin, end};
      chunks.push_back(engine.post(code, chunk_options, true, [&](pickle::Writer& out) {
        out.write(&head, sizeof head);
        out.carry(head.job);
        if constexpr (!array) {
          out.reserve(std::min(item_bytes * (end - begin), kMostReserved));
          for (std::uint64_t i = begin; i < end; ++i, ++it) write_item<T>(out, *it);
          item_bytes = out.size() / (end - begin) * 9 / 8;
        }
      }));
      ends.push_back(begin = end);
    }
  } catch (...) {
    ProcessMap<R>(std::move(control), output, std::move(chunks), std::move(ends));  // cancels what is under way
    throw;
  }
  return std::shared_ptr<MapSource<R>>(
      std::make_shared<ProcessMap<R>>(std::move(control), output, std::move(chunks), std::move(ends)));
}

}  // namespace mp::pool
