#include "mp/sync/event.hpp"

#include "mp/os/spin.hpp"
#include "mp/pickle/handle.hpp"
#include "mp/sync/event_word.hpp"

namespace mp {
namespace {

// `state`: bit 0 the flag, bits 1-31 how often it was set. One store is the commit point of set and of clear.
struct State {
  std::atomic<std::uint32_t> state{0};
  sync::EventWord changed;
};

}  // namespace

Event::Event() : ref_(memory::create<State>(memory::Kind::event, 0, 0)) {}

bool Event::is_set() const noexcept { return ref_.as<State>().state.load(std::memory_order_acquire) & 1; }

void Event::set() noexcept {
  State& s = ref_.as<State>();
  std::uint32_t now = s.state.load(std::memory_order_relaxed);
  do {
    if (now & 1) return;
  } while (!s.state.compare_exchange_weak(now, (now + 2) | 1, std::memory_order_seq_cst));
  s.changed.notify_all();
}

void Event::clear() noexcept { ref_.as<State>().state.fetch_and(~1u, std::memory_order_acq_rel); }

bool Event::wait(Timeout timeout) const {
  static thread_local os::Spinner spin;
  State& s = ref_.as<State>();
  std::uint32_t first = s.state.load(std::memory_order_acquire);
  // Set now, or set since we came, even if cleared again.
  auto seen_set = [&] {
    std::uint32_t now = s.state.load(std::memory_order_seq_cst);
    return (now & 1) || now >> 1 != first >> 1;
  };
  if (seen_set()) return true;
  os::Deadline deadline(timeout);
  if (!deadline.passed() && spin(seen_set)) return true;
  for (;;) {
    std::uint32_t seen = s.changed.prepare();
    if (seen_set()) return true;
    if (deadline.passed()) return false;
    s.changed.wait(seen, deadline);
  }
}

void Event::mp_pickle(pickle::Writer& out) const { pickle::dump_ref(out, ref_); }
Event Event::mp_unpickle(pickle::Reader& in) { return Event(pickle::load_ref<State>(in, memory::Kind::event)); }

}  // namespace mp
