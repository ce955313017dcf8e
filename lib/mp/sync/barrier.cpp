#include "mp/sync/barrier.hpp"

#include <cstring>
#include <mutex>
#include <vector>

#include "mp/errors.hpp"
#include "mp/pickle/handle.hpp"
#include "mp/sync/event_word.hpp"
#include "mp/sync/mutex.hpp"

namespace mp {
namespace {

using memory::Kind;

// Invariants, under `mutex`:
//  1. waiting[0 .. count) are those that wait in the current round; `count` is their commit point.
//  2. `round` counts up when a round ends, well or badly: bit round % 64 of `bad` says which (a waiter looks at once, and
//     cannot be 64 rounds behind: it is one of the parties).
//  3. `running` is who runs the action; until the round ends nobody joins.
struct State {
  State(unsigned n, std::int64_t limit) noexcept : parties(n), timeout(limit) {}
  sync::Mutex mutex;
  const unsigned parties;
  const std::int64_t timeout;  // ns; -1 = for ever
  unsigned count = 0;
  memory::Tag running = memory::kNobody;
  std::atomic<bool> broken{false};
  std::atomic<std::uint64_t> round{0};
  std::uint64_t bad = 0;
  sync::EventWord changed;
  pickle::CodeRef action{};
  memory::Offset action_state = 0;
  std::uint32_t action_size = 0, action_carried = 0;

  memory::Tag* waiting() noexcept { return reinterpret_cast<memory::Tag*>(this + 1); }
  void end_round(bool well) noexcept {
    std::uint64_t now = round.load(std::memory_order_relaxed), bit = std::uint64_t{1} << now % 64;
    bad = well ? bad & ~bit : bad | bit;
    count = 0;
    running = memory::kNobody;
    round.store(now + 1, std::memory_order_release);
  }
  bool ended_well(std::uint64_t which) const noexcept { return !(bad >> which % 64 & 1); }
};

void destroy(void* object) noexcept {
  State& s = *static_cast<State*>(object);
  if (!s.action_state) return;
  const auto* carried = memory::at<memory::Offset>(s.action_state);
  for (std::uint32_t i = 0; i < s.action_carried; ++i) memory::release(carried[i]);
  memory::deallocate(s.action_state);
}
const bool known [[maybe_unused]] = memory::set_destroyer(Kind::barrier, destroy);

bool party_died(State& s) noexcept {
  if (s.running != memory::kNobody && !memory::alive(s.running)) return true;
  for (unsigned i = 0; i < s.count; ++i)
    if (!memory::alive(s.waiting()[i])) return true;
  return false;
}

// Breaks the barrier for those of `round`, if that is still the current one.
void break_it(State& s, std::uint64_t round) noexcept {
  {
    std::lock_guard guard(s.mutex);
    if (s.round.load(std::memory_order_relaxed) != round) return;
    s.broken.store(true, std::memory_order_release);
    s.end_round(false);
  }
  s.changed.notify_all();
}

void act(State& s, std::uint64_t round) {
  if (s.action.module == 0) return;
  const std::byte* bytes = memory::at<const std::byte>(s.action_state) + s.action_carried * sizeof(memory::Offset);
  pickle::Reader in({bytes, s.action_size});
  try {
    pickle::code_as<void (*)(pickle::Reader&)>(s.action)(in);
  } catch (...) {
    break_it(s, round);
    throw;
  }
}

}  // namespace

Barrier::Barrier(unsigned parties, Timeout timeout) {
  if (parties == 0) throw ValueError("a barrier has at least one party");
  ref_ = memory::create<State>(Kind::barrier, 0, parties * sizeof(memory::Tag), parties, timeout.forever() ? -1 : timeout.left().count());
}

void Barrier::set_action(pickle::CodeRef code, pickle::Writer& state) {
  State& s = ref_.as<State>();
  auto carried = state.carried();
  s.action_state = memory::allocate(carried.size_bytes() + state.size());
  if (!carried.empty()) std::memcpy(memory::at<void>(s.action_state), carried.data(), carried.size_bytes());
  if (state.size()) std::memcpy(memory::at<std::byte>(s.action_state) + carried.size_bytes(), state.bytes().data(), state.size());
  s.action_carried = static_cast<std::uint32_t>(carried.size());
  s.action_size = static_cast<std::uint32_t>(state.size());
  state.detach();
  s.action = code;
}

unsigned Barrier::wait() {
  std::int64_t limit = ref_.as<State>().timeout;
  return wait(limit < 0 ? Timeout() : Timeout(std::chrono::nanoseconds(limit)));
}

unsigned Barrier::wait(Timeout timeout) {
  State& s = ref_.as<State>();
  os::Deadline deadline(timeout);
  std::uint64_t round;
  unsigned index;
  for (;;) {
    std::uint32_t seen = s.changed.prepare();
    std::unique_lock guard(s.mutex);
    if (s.broken.load(std::memory_order_relaxed)) throw BrokenBarrierError();
    round = s.round.load(std::memory_order_relaxed);
    if (s.running != memory::kNobody) {  // the last round's action is still at work
      guard.unlock();
      if (s.changed.wait(seen, deadline) == os::Woken::timed_out && (deadline.passed() || party_died(s))) break_it(s, round);
      continue;
    }
    index = s.count;
    s.waiting()[index] = memory::self();
    s.count = index + 1;
    if (s.count == s.parties) s.running = memory::self();
    break;
  }
  if (index + 1 == s.parties) {
    act(s, round);
    bool well;
    {
      std::lock_guard guard(s.mutex);
      // The others may have lost patience, or somebody reset it, while the action ran.
      if (s.round.load(std::memory_order_relaxed) == round) s.end_round(true);
      well = s.ended_well(round);
    }
    s.changed.notify_all();
    if (!well) throw BrokenBarrierError();
    return index;
  }
  for (;;) {
    std::uint32_t seen = s.changed.prepare();
    if (s.round.load(std::memory_order_acquire) != round) break;
    auto woken = s.changed.wait(seen, deadline);
    if (woken != os::Woken::timed_out || s.round.load(std::memory_order_acquire) != round) continue;
    if (deadline.passed() || party_died(s)) break_it(s, round);
  }
  std::lock_guard guard(s.mutex);
  if (!s.ended_well(round)) throw BrokenBarrierError();
  return index;
}

void Barrier::reset() {
  State& s = ref_.as<State>();
  {
    std::lock_guard guard(s.mutex);
    s.broken.store(false, std::memory_order_release);
    if (s.count > 0) s.end_round(false);
  }
  s.changed.notify_all();
}

void Barrier::abort() {
  State& s = ref_.as<State>();
  break_it(s, s.round.load(std::memory_order_acquire));
}

unsigned Barrier::parties() const noexcept { return ref_.as<State>().parties; }
unsigned Barrier::n_waiting() const noexcept {
  State& s = ref_.as<State>();
  std::lock_guard guard(s.mutex);
  return s.running == memory::kNobody ? s.count : 0;
}
bool Barrier::broken() const noexcept { return ref_.as<State>().broken.load(std::memory_order_acquire); }

void Barrier::mp_pickle(pickle::Writer& out) const { pickle::dump_ref(out, ref_); }
Barrier Barrier::mp_unpickle(pickle::Reader& in) { return Barrier(pickle::load_ref(in, Kind::barrier)); }

}  // namespace mp
