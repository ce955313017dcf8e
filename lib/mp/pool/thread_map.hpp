// A map on a thread pool. As many runners as there are threads (or chunks) stand in the engine's queue; each takes chunk
// after chunk until none is left, so a map costs few queue entries however long it is. Every item has its own outcome.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "mp/pickle/range.hpp"
#include "mp/pool/map_source.hpp"
#include "mp/pool/pace.hpp"
#include "mp/pool/thread_engine.hpp"

namespace mp::pool {

// Which items are taken, which are done and how: all of a map that knows neither items nor results.
//
// *Thread safety*: any thread; done() and failed() of an item by the one that claimed it.
// *Memory ordering*: what was written before done(i) is seen after wait(i) was true.
class MapProgress {
 public:
  // chunk = 0: large chunks at first, single items at the end.
  MapProgress(std::size_t items, std::size_t chunk, unsigned workers);

  std::size_t size() const noexcept { return size_; }
  std::size_t chunks_at_most() const noexcept { return chunk_ && size_ ? 1 + (size_ - 1) / chunk_ : size_; }

  struct Chunk {
    std::size_t begin, end;
  };
  std::optional<Chunk> claim() noexcept;  // nothing: no item is left
  bool cancelled() const noexcept { return cancelled_.load(std::memory_order_relaxed); }
  void done(std::size_t item) noexcept { settle(item, State::value); }
  void failed(std::size_t item, std::exception_ptr error) noexcept;
  void dropped(std::size_t item) noexcept { settle(item, State::dropped); }
  void finish(std::size_t items) noexcept;  // so many more have their outcome; the last calls what on_done() left

  // Items that have not begun end in `why`; null: CancelledError.
  void cancel(const std::exception_ptr& why) noexcept;

  bool wait(std::size_t item, const os::Deadline& deadline);
  std::exception_ptr take_error(std::size_t item);  // once; null for a value
  void on_done(std::function<void()> f);

 private:
  enum class State : std::uint8_t { waiting, value, error, dropped };
  // Whom settle() wakes, in wanted_: the one waiter's item, or one of these.
  static constexpr std::size_t kNobody = ~std::size_t{0}, kSeveral = kNobody - 1;

  void settle(std::size_t item, State state) noexcept;
  bool known(std::size_t item) const noexcept {
    return states_[item].load(std::memory_order_seq_cst) != State::waiting;
  }

  const std::size_t size_, chunk_;
  const unsigned workers_;
  std::unique_ptr<std::atomic<State>[]> states_;
  std::atomic<std::size_t> next_{0}, left_;
  std::atomic<std::size_t> wanted_{kNobody};
  std::atomic<bool> cancelled_{false};

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  unsigned waiters_ = 0;
  std::unordered_map<std::size_t, std::exception_ptr> errors_;
  std::exception_ptr why_;  // of dropped items
  std::vector<std::function<void()>> callbacks_;
  Pace pace_;
};

template <bool Spread, class F, class T>
class MapWork final : public Counted, public ThreadTask {
 public:
  using R = ItemResult<Spread, F, T>;
  struct Item {  // also keeps bools apart
    T value;
  };

  template <class G>
  MapWork(G&& f, std::vector<Item> items, std::size_t chunk, unsigned workers)
      : progress(items.size(), chunk, workers),
        f_(std::forward<G>(f)),
        items_(std::move(items)),
        values_(items_.size()) {}

  void run() noexcept override {
    while (auto chunk = progress.claim()) {
      if constexpr (std::is_copy_constructible_v<F>) {  // a state of its own for each chunk, as in a worker process
        try {
          F f(std::as_const(f_));
          run_items(f, *chunk);
        } catch (...) {
          fail_items(*chunk, std::current_exception());
        }
      } else {
        run_items(f_, *chunk);
      }
      progress.finish(chunk->end - chunk->begin);
    }
  }
  void drop(const std::exception_ptr& why) noexcept override { progress.cancel(why); }
  void stop() noexcept override { progress.cancel(nullptr); }

  Stored<R> take(std::size_t item) {
    if (auto e = progress.take_error(item)) std::rethrow_exception(std::move(e));
    Stored<R> value = std::move(*values_[item]);
    values_[item].reset();
    return value;
  }

  MapProgress progress;

 private:
  void run_items(F& f, MapProgress::Chunk chunk) noexcept {
    for (std::size_t i = chunk.begin; i < chunk.end; ++i) {
      if (progress.cancelled()) {
        progress.dropped(i);
        continue;
      }
      std::exception_ptr error;  // told after the handler has let go of it: the taker is its only holder then
      try {
        if constexpr (std::is_void_v<R>) {
          call_item<Spread>(f, std::move(items_[i].value));
          values_[i].emplace();
        } else {
          values_[i].emplace(call_item<Spread>(f, std::move(items_[i].value)));
        }
      } catch (...) {
        error = std::current_exception();
      }
      if (error) progress.failed(i, std::move(error));
      else progress.done(i);
    }
  }
  void fail_items(MapProgress::Chunk chunk, const std::exception_ptr& error) noexcept {
    for (std::size_t i = chunk.begin; i < chunk.end; ++i) progress.failed(i, error);
  }

  F f_;
  std::vector<Item> items_;
  std::vector<std::optional<Stored<R>>> values_;
};

// The caller's end: dropping it cancels.
template <class Work>
class ThreadMap final : public MapSource<typename Work::R> {
 public:
  explicit ThreadMap(Held<Work> work) noexcept : work_(std::move(work)), unseen_(work_->progress.size()) {}
  ~ThreadMap() override { cancel(); }
  std::size_t size() const noexcept override { return work_->progress.size(); }
  bool wait(std::size_t item, const os::Deadline& deadline) override { return work_->progress.wait(item, deadline); }
  // From the last item: it is done late, so that the others need no wait.
  bool wait_all(const os::Deadline& deadline) override {
    for (std::size_t left = unseen_.load(std::memory_order_relaxed); left > 0; --left) {
      if (!wait(left - 1, deadline)) return false;
      unseen_.store(left - 1, std::memory_order_relaxed);
    }
    return true;
  }
  Stored<typename Work::R> take(std::size_t item) override { return work_->take(item); }
  void cancel() noexcept override { work_->progress.cancel(nullptr); }
  void on_done(std::function<void()> f) override { work_->progress.on_done(std::move(f)); }

 private:
  Held<Work> work_;
  std::atomic<std::size_t> unseen_;  // items from here on are known to be done
};

// Starts a map of f over `items`; returns at once. The items are copied, or moved out of a container given as an rvalue.
// Each chunk calls a copy of f (f itself where it cannot be copied; std::ref(f) where it shall be shared).
// Of the options, timeout, limits and retries mean nothing here: a thread neither crashes nor can be stopped.
template <bool Spread, class F, class Range>
auto map_items(ThreadEngine& engine, const MapOptions& options, F&& f, Range&& items) {
  using T = std::decay_t<decltype(*std::begin(items))>;
  using Work = MapWork<Spread, std::decay_t<F>, T>;
  constexpr bool movable = !std::is_reference_v<Range> && !pickle::ViewRange<Range>;

  std::vector<typename Work::Item> list;
  if constexpr (requires { std::size(items); }) list.reserve(static_cast<std::size_t>(std::size(items)));
  const auto end = std::end(items);
  for (auto it = std::begin(items); it != end; ++it) {
    if constexpr (movable) list.push_back({std::move(*it)});
    else list.push_back({*it});
  }
  auto work = Held<Work>::make(std::forward<F>(f), std::move(list), options.chunksize, engine.workers());
  std::shared_ptr<MapSource<typename Work::R>> source = std::make_shared<ThreadMap<Work>>(work);
  for (std::size_t n = std::min<std::size_t>(engine.workers(), work->progress.chunks_at_most()); n > 0; --n)
    engine.post(QueuedTask(work));
  return source;
}

}  // namespace mp::pool
