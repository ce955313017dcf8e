#include "mp/channel/queue_base.hpp"

#include <cerrno>

#include "mp/pickle/handle.hpp"

namespace mp::channel {
namespace {

[[maybe_unused]] const bool registered =
    memory::set_destroyer(memory::Kind::queue, [](void* object) noexcept { static_cast<QueueState*>(object)->stream.destroy(); });

}  // namespace

QueueBase::QueueBase(Flavour flavour, std::uint64_t element, int maxsize) {
  memory::start();
  const Stream::Limits limits{.items = maxsize > 0 ? static_cast<std::uint32_t>(maxsize) : 0, .bytes = 0};
  ref_ = memory::create<QueueState>(memory::Kind::queue, queue_type(flavour, element), 0, limits);
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
  return pickle::load_ref(r, memory::Kind::queue, queue_type(flavour, element));
}

void QueueBase::shut_down(bool immediate) const {
  QueueState& s = state();
  s.stream.shut_down();
  if (!immediate) return;
  const std::size_t dropped = s.stream.discard();
  if (dropped == 0) return;
  s.done.fetch_add(static_cast<std::uint32_t>(dropped), std::memory_order_acq_rel);
  s.all_done.notify_all();
  s.stream.wake_all();
}

void QueueBase::task_done() const {
  QueueState& s = state();
  std::uint32_t done = s.done.load(std::memory_order_relaxed);
  do {
    if (((s.stream.put_count() - done) & Place::kCountMask) == 0) throw ValueError("task_done() called too many times");
  } while (!s.done.compare_exchange_weak(done, done + 1, std::memory_order_acq_rel));
  s.all_done.notify_all();
}

bool QueueBase::join(Timeout timeout) const {
  QueueState& s = state();
  const auto finished = [&] {
    return ((s.stream.put_count() - s.done.load(std::memory_order_acquire)) & Place::kCountMask) == 0;
  };
  if (finished()) return true;
  for (const os::Deadline deadline(timeout);;) {
    const std::uint32_t seen = s.all_done.prepare();
    if (finished()) return true;
    if (deadline.passed()) return false;
    s.all_done.wait(seen, deadline);
  }
}

}  // namespace mp::channel
