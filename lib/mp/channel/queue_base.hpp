// What all queues have in common, without their element type: the shared object, the handle to it, waiting and giving up.
// Private to the room; users see queue.hpp.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "mp/channel/doorbell.hpp"
#include "mp/channel/stream.hpp"
#include "mp/errors.hpp"
#include "mp/memory/ref.hpp"
#include "mp/os/clock.hpp"
#include "mp/pickle/bytes.hpp"

namespace mp::channel {

// The three kinds of queue are one object; a handle of one is not taken for another's.
enum class Flavour : std::uint64_t { queue, joinable, simple };

constexpr std::uint64_t queue_type(Flavour flavour, std::uint64_t element) noexcept {
  return element ^ (static_cast<std::uint64_t>(flavour) + 1) * 0x9e3779b97f4a7c15ull;
}

struct QueueState {
  explicit QueueState(Stream::Options options) : stream(options) {}
  Stream stream;
  alignas(64) sync::EventWord all_done;
};

class QueueBase {
 public:
  // Items in the queue; exact when nobody is putting or getting.
  std::size_t qsize() const { return state().stream.size(); }
  // Throws OSError after close(), as Python's.
  bool empty() const;
  bool full() const { return state().stream.full(); }

  // This handle is done with the queue: everything else throws ValueError from now on. Other handles, in this process too,
  // are not touched. Nothing waits: what was put is in the queue.
  void close() noexcept { ref_ = {}; }

  // Whether `shutdown()` was called.
  bool is_shut_down() const { return state().stream.is_shut_down(); }

  friend bool operator==(const QueueBase&, const QueueBase&) noexcept = default;

  // What connection::wait() looks at: ready when get() would not wait.
  Source source() const { return {ref_, state().stream, state().stream.flags(), nullptr}; }

 protected:
  QueueBase(Flavour flavour, std::uint64_t element, int maxsize);
  explicit QueueBase(memory::Ref ref) noexcept : ref_(std::move(ref)) {}
  ~QueueBase() = default;
  QueueBase(const QueueBase&) = default;
  QueueBase(QueueBase&&) noexcept = default;
  QueueBase& operator=(const QueueBase&) = default;
  QueueBase& operator=(QueueBase&&) noexcept = default;

  void dump(pickle::Writer& w) const;
  static memory::Ref load(pickle::Reader& r, Flavour flavour, std::uint64_t element);

  QueueState& state() const {
    if (!ref_) [[unlikely]]
      throw_closed();
    return ref_.as<QueueState>();
  }
  [[noreturn]] static void throw_closed();

  // Tries `put()` until it is done, the queue is shut down or time is up.
  template <class Try>
  static Put put_until(Stream& stream, Try put, bool block, Timeout timeout) {
    Put result = put();
    if (result == Put::full && block) [[unlikely]] {
      const os::Deadline deadline(timeout);
      while (result == Put::full && stream.wait_writable(deadline, stream.flags())) result = put();
    }
    return result;
  }
  // Tries `take()` until it finds something, nothing can come any more, or time is up.
  enum class Outcome : std::uint8_t { done, empty, shut_down };
  template <class Try>
  static Outcome take_until(Stream& stream, Try take, bool block, Timeout timeout) {
    if (take()) [[likely]]
      return Outcome::done;
    std::optional<os::Deadline> deadline;
    for (;;) {
      // In this order: what was put before the shut-down is seen after it.
      if (stream.is_shut_down()) return take() ? Outcome::done : Outcome::shut_down;
      if (!block) return Outcome::empty;
      if (!deadline) deadline.emplace(timeout);
      if (!stream.wait_readable(*deadline, stream.flags())) return Outcome::empty;
      if (take()) return Outcome::done;
    }
  }

  void shut_down(bool immediate) const;
  void task_done() const;
  bool join(Timeout timeout) const;

 private:
  memory::Ref ref_;
};

}  // namespace mp::channel
