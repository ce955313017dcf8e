#include "mp/sync/barrier.hpp"

#include <cstring>
#include <mutex>
#include <new>
#include <string>

#include "mp/errors.hpp"
#include "mp/os/spin.hpp"
#include "mp/pickle/handle.hpp"
#include "mp/sync/event_word.hpp"
#include "mp/sync/mutex.hpp"
#include "mp/sync/patrol.hpp"

namespace mp {
namespace {

using memory::Kind;

// Where a barrier stands, one word, so that no kill leaves it between two states.
// Bits 0-15 how many wait (all parties: the last of them runs the action), bit 16 broken, bits 17-63 number of the round.
struct Phase {
  std::uint64_t raw = 0;
  unsigned count() const noexcept { return raw & 0xffff; }
  bool broken() const noexcept { return raw & 0x10000; }
  std::uint64_t round() const noexcept { return raw >> 17; }
};
constexpr Phase make_phase(std::uint64_t round, bool broken, unsigned count) noexcept {
  return {round << 17 | (broken ? 0x10000u : 0u) | count};
}
constexpr unsigned kMaxParties = 0xffff;

// Invariants, under `mutex`:
//  1. Every change is one store to `phase`.
//  2. parties_here[0 .. count) are those that wait in the current round, in the order in which they came.
//  3. Bit round % 64 of `bad` says of a round that has ended whether it ended badly; it is written before the store that ends
//     the round. A waiter that is 64 rounds late (others came in its place meanwhile) may be told the outcome of a later one.
struct State {
  State(unsigned n, std::int64_t limit) noexcept : parties(n), timeout(limit) {
    for (unsigned i = 0; i < n; ++i) new (&parties_here()[i]) std::atomic<memory::Tag>(memory::kNobody);
  }
  sync::Mutex mutex;
  const unsigned parties;
  const std::int64_t timeout;  // ns; -1 = for ever
  std::atomic<std::uint64_t> phase{0};
  std::uint64_t bad = 0;
  sync::Patrol patrol;
  sync::EventWord changed;
  std::uint32_t action_size = 0, action_carried = 0;
  memory::Offset action_state = 0;
  pickle::CodeRef action{};

  std::atomic<memory::Tag>* parties_here() noexcept { return reinterpret_cast<std::atomic<memory::Tag>*>(this + 1); }
  Phase now() const noexcept { return {phase.load(std::memory_order_acquire)}; }
  void move(Phase to) noexcept { phase.store(to.raw, std::memory_order_release); }
  void end_round(bool well, bool broken) noexcept {
    std::uint64_t round = now().round(), bit = std::uint64_t{1} << round % 64;
    bad = well ? bad & ~bit : bad | bit;
    move(make_phase(round + 1, broken, 0));
  }
  bool ended_well(std::uint64_t round) const noexcept { return !(bad >> round % 64 & 1); }
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

void destroy(void* object) noexcept {
  State& s = *static_cast<State*>(object);
  if (!s.action_state) return;
  const auto* carried = memory::at<memory::Offset>(s.action_state);
  while (s.action_carried > 0) memory::release(carried[--s.action_carried]);
  memory::deallocate(std::exchange(s.action_state, 0));
}
const bool known [[maybe_unused]] = memory::set_destroyer(Kind::barrier, destroy, alignof(State));

bool party_died(State& s) noexcept {
  unsigned count = s.now().count();
  for (unsigned i = 0; i < count; ++i)
    if (!memory::alive(s.parties_here()[i].load(std::memory_order_relaxed))) return true;
  return false;
}

// Breaks the barrier for those of `round`, if that is still the current one.
void break_it(State& s, std::uint64_t round) noexcept {
  {
    std::lock_guard guard(s.mutex);
    if (s.now().round() != round) return;
    s.end_round(false, true);
  }
  s.changed.notify_all();
}

// Sleeps until something has changed since `seen`; breaks `round` when the caller's time is over or a party has died.
void sleep(State& s, std::uint32_t seen, std::uint64_t round, const os::Deadline& deadline) noexcept {
  os::Woken woken = s.changed.wait(seen, deadline);
  if (woken == os::Woken::woken || woken == os::Woken::changed || s.now().round() != round) return;
  if (deadline.passed() || (s.patrol.due() && party_died(s))) break_it(s, round);
}

void act(State& s, std::uint64_t round) {
  if (s.action.module == 0) return;
  try {
    const std::size_t carried = s.action_carried * sizeof(memory::Offset), size = s.action_size;
    const std::byte* state = memory::block_at(s.action_state, carried + size);
    if (state == nullptr) throw UnpicklingError("a barrier's action is not where it should be in shared memory");
    pickle::Reader in({state + carried, size});
    pickle::code_as<void (*)(pickle::Reader&)>(s.action)(in);
  } catch (...) {
    break_it(s, round);
    throw;
  }
}

}  // namespace

Barrier::Barrier(unsigned parties, Timeout timeout) {
  if (parties == 0 || parties > kMaxParties)
    throw ValueError("a barrier has 1 to " + std::to_string(kMaxParties) + " parties, not " + std::to_string(parties));
  ref_ = memory::create<State>(Kind::barrier, 0, parties * sizeof(memory::Tag), parties,
                               timeout.forever() ? -1 : timeout.left().count());
}

void Barrier::set_action(pickle::CodeRef code, pickle::Writer& state) {
  State& s = ref_.as<State>();
  auto carried = state.carried();
  s.action_state = memory::allocate(carried.size_bytes() + state.size());
  if (!carried.empty()) std::memcpy(memory::at<void>(s.action_state), carried.data(), carried.size_bytes());
  if (state.size())
    std::memcpy(memory::at<std::byte>(s.action_state) + carried.size_bytes(), state.bytes().data(), state.size());
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
  static thread_local os::Spinner spin;
  State& s = ref_.as<State>();
  os::Deadline deadline(timeout);
  std::uint64_t round;
  unsigned index;
  for (;;) {
    std::unique_lock guard(s.mutex);
    Phase now = s.now();
    if (now.broken()) throw BrokenBarrierError();
    round = now.round();
    index = now.count();
    if (index < s.parties) {
      s.parties_here()[index].store(memory::self(), std::memory_order_relaxed);
      s.move(make_phase(round, false, index + 1));
      break;
    }
    std::uint32_t seen = s.changed.prepare();
    guard.unlock();
    sleep(s, seen, round, deadline);  // the last round's action is still at work
  }
  auto over = [&] { return s.now().round() != round; };
  if (index + 1 == s.parties) {
    act(s, round);
    {
      std::lock_guard guard(s.mutex);
      // The others may have lost patience, or somebody reset it, while the action ran.
      if (!over()) s.end_round(true, false);
    }
    s.changed.notify_all();
  } else if (deadline.passed()) {
    break_it(s, round);
  } else if (!spin(over)) {
    for (;;) {
      std::uint32_t seen = s.changed.prepare();
      if (over()) break;
      sleep(s, seen, round, deadline);
    }
  }
  std::lock_guard guard(s.mutex);
  if (!s.ended_well(round)) throw BrokenBarrierError();
  return index;
}

void Barrier::reset() {
  State& s = ref_.as<State>();
  {
    std::lock_guard guard(s.mutex);
    if (s.now().count() > 0) s.end_round(false, false);
    else s.move(make_phase(s.now().round(), false, 0));
  }
  s.changed.notify_all();
}

void Barrier::abort() {
  State& s = ref_.as<State>();
  break_it(s, s.now().round());
}

unsigned Barrier::parties() const noexcept { return ref_.as<State>().parties; }
unsigned Barrier::n_waiting() const noexcept {
  State& s = ref_.as<State>();
  unsigned count = s.now().count();
  return count < s.parties ? count : 0;
}
bool Barrier::broken() const noexcept { return ref_.as<State>().now().broken(); }

void Barrier::mp_pickle(pickle::Writer& out) const { pickle::dump_ref(out, ref_); }
Barrier Barrier::mp_unpickle(pickle::Reader& in) {
  memory::Ref ref = pickle::load_ref<State>(in, Kind::barrier);
  if (!memory::array_at<memory::Tag>(ref.offset() + sizeof(State), ref.as<State>().parties))
    pickle::malformed("barrier", "it has more parties than its block of shared memory has room for");
  return Barrier(std::move(ref));
}

}  // namespace mp
