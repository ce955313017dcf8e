// connection::wait(): Python's multiprocessing.connection.wait(). Waits for any of: connections, queues, descriptors (a process's
// sentinel, a socket). Differences: queues may be in the list; what is returned are places in it.
//
//   for (std::size_t i : mp::connection::wait({here, results, child.sentinel()}, 1s)) ...
//
// Connections and queues are slept on directly (futex_waitv, at most 128 at once; with more it looks every millisecond), descriptors by
// ppoll(2). In a list of both kinds, sleeping goes through the helper thread of doorbell.hpp.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <span>
#include <vector>

#include "mp/channel/connection.hpp"
#include "mp/channel/doorbell.hpp"
#include "mp/channel/queue_base.hpp"
#include "mp/os/clock.hpp"
#include "mp/pickle/range.hpp"

namespace mp::connection {

class Waitable {
 public:
  Waitable(Connection& connection) : source_(connection.source()) {}      // ready when poll() is true
  Waitable(const channel::QueueBase& queue) : source_(queue.source()) {}  // ready when get() would not wait
  Waitable(int fd);                                                       // ready when readable, or in error

  const std::optional<channel::Source>& source() const noexcept { return source_; }
  int fd() const noexcept { return fd_; }

 private:
  std::optional<channel::Source> source_;
  int fd_ = -1;
};

// The places in `objects` of those that are ready, in order; empty once time is up. Throws OSError (a descriptor that is not open).
std::vector<std::size_t> wait(std::span<const Waitable> objects, Timeout timeout = {});
inline std::vector<std::size_t> wait(std::initializer_list<Waitable> objects, Timeout timeout = {}) {
  return wait(std::span(objects.begin(), objects.size()), timeout);
}
// The same for a range of connections, queues or descriptors.
template <pickle::InputRange Range>
  requires(std::is_constructible_v<Waitable, pickle::RangeReference<Range>> &&
           !std::is_same_v<pickle::RangeValue<Range>, Waitable>)
std::vector<std::size_t> wait(Range&& objects, Timeout timeout = {}) {
  std::vector<Waitable> list;
  for (auto&& object : objects) list.emplace_back(object);
  return wait(std::span<const Waitable>(list), timeout);
}

}  // namespace mp::connection
