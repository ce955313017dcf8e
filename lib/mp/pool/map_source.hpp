// The outcome of a map, item by item, whoever computes it: what the ranges of results (results.hpp) read from.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>

#include "mp/os/clock.hpp"
#include "mp/pool/future_state.hpp"
#include "mp/pool/limits.hpp"

namespace mp {

// How a map travels.
struct MapOptions {
  std::size_t chunksize = 0;  // items that travel together; 0 = chosen: large at first, single at the end
  Timeout timeout =
      {};  // of one item, from when a worker takes it: its worker is ended, the item ends in TimeoutError (a TaskTimeout)
  unsigned retries = 0;   // further attempts of an item after its worker's end
  Timeout deadline = {};  // of the whole map, from the call (Python's timeout): then iteration throws TimeoutError
  std::size_t buffersize =
      0;  // so many items are taken from the input ahead of the results; 0 = all (imap: a few per worker)
  TaskLimits limits = {};  // of each item
};

namespace pool {

// *Thread safety*: any thread; each item is taken once, by one thread.
template <class R>
class MapSource {
 public:
  virtual ~MapSource() = default;  // cancel()
  virtual std::size_t size() const noexcept = 0;
  // Until the item has its outcome; false when the time is over first.
  virtual bool wait(std::size_t item, const os::Deadline& deadline) = 0;
  // Until all items have their outcomes; false when the time is over first. Sleeps and wakes less often than wait() for one item after
  // the other.
  virtual bool wait_all(const os::Deadline& deadline) = 0;
  // The item's value, moved out; throws its error. Only after wait() was true.
  virtual Stored<R> take(std::size_t item) = 0;
  // Items that have not begun end in CancelledError; those that run go on to their end.
  virtual void cancel() noexcept = 0;
  // Calls `f` once, when every item has its outcome: in the thread that completes the last, or at once.
  virtual void on_done(std::function<void()> f) = 0;
  // Values from `item` on that are done and lie side by side (plain data from processes): some or none. They are not taken, and
  // live as long as the source.
  virtual std::span<const Stored<R>> row(std::size_t) const noexcept { return {}; }
  // All values in order where they lie as an array (plain data from processes), once all items are done without error;
  // null otherwise. Lives as long as the source.
  virtual const Stored<R>* array() const noexcept { return nullptr; }
};

}  // namespace pool
}  // namespace mp
