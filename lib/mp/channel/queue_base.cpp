#include "mp/channel/queue_base.hpp"

#include <cerrno>

#include "mp/pickle/handle.hpp"

namespace mp::channel {
namespace {

[[maybe_unused]] const bool registered = memory::set_destroyer(
    memory::Kind::queue, [](void* object) noexcept { static_cast<QueueState*>(object)->stream.destroy(); },
    alignof(QueueState));

}  // namespace

QueueBase::QueueBase(Flavour flavour, std::uint64_t element, int maxsize) {
  memory::start();
  const Stream::Options options{.items = maxsize > 0 ? static_cast<std::uint32_t>(maxsize) : 0,
                                .bytes = 0,
                                .track_takers = flavour == Flavour::joinable};
  ref_ = memory::create<QueueState>(memory::Kind::queue, queue_type(flavour, element), 0, options);
}

void QueueBase::throw_closed() { throw ValueError("queue is closed"); }

bool QueueBase::empty() const {
  if (!ref_) throw OSError(EBADF, "empty", "queue is closed");
  return ref_.as<QueueState>().stream.empty();
}

void QueueBase::dump(pickle::Writer& w) const {
  static_cast<void>(state());
  pickle::dump_ref(w, ref_);
}

memory::Ref QueueBase::load(pickle::Reader& r, Flavour flavour, std::uint64_t element) {
  return pickle::load_ref<QueueState>(r, memory::Kind::queue, queue_type(flavour, element));
}

void QueueBase::shut_down(bool immediate) const {
  QueueState& s = state();
  s.stream.shut_down();
  if (!immediate) return;
  s.stream.discard();
  s.stream.wake_all();
  s.all_done.notify_all();
}

void QueueBase::task_done() const {
  QueueState& s = state();
  if (!s.stream.finish_one()) throw ValueError("task_done() called too many times");
  s.all_done.notify_all();
}

bool QueueBase::join(Timeout timeout) const {
  QueueState& s = state();
  if (s.stream.all_finished()) return true;
  for (const os::Deadline deadline(timeout);;) {
    const std::uint32_t seen = s.all_done.prepare();
    if (s.stream.all_finished()) return true;
    if (deadline.passed()) return false;
    if (s.all_done.wait(seen, deadline) != os::Woken::timed_out || !s.stream.has_dead_taker()) continue;
    if (const std::uint64_t lost = s.stream.finish_for_the_dead(); lost != 0) {
      s.all_done.notify_all();
      throw OwnerDied("a consumer died with " + std::to_string(lost) +
                      " item(s) of the queue taken and not done; they count as done now");
    }
  }
}

}  // namespace mp::channel
