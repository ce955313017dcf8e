#include "mp/process/record.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>

#include "mp/memory/family.hpp"
#include "mp/os/clock.hpp"
#include "mp/os/fork_page.hpp"
#include "mp/os/futex.hpp"
#include "mp/os/life.hpp"
#include "mp/process/child.hpp"

namespace mp::process {
namespace {

void destroy_record(void* object) noexcept {
  Record& record = *static_cast<Record*>(object);
  drop_payload_of(record);
  if (Offset bell = std::exchange(record.bell_object, 0)) memory::try_release(bell);
}
const bool known [[maybe_unused]] = memory::set_destroyer(memory::Kind::record, destroy_record, alignof(Record));

// Killed before it had read what it was given: the handles in there are nobody's, however long somebody keeps the record. A child
// of the program's own fork(2) has the record of its parent.
void on_retirement(memory::Tag tag, Offset object) noexcept {
  auto* record = memory::try_object<Record>(object, memory::Kind::record);
  if (record != nullptr && record->tag == tag) drop_payload_of(*record);
}
const bool listening [[maybe_unused]] = (memory::at_retirement(on_retirement), true);

// Two threads that conclude at once: the first gets the kernel's answer, the second must not guess meanwhile.
MP_FORK_PAGE std::mutex concluding;

constexpr auto kReapersTime = std::chrono::milliseconds(50);

// What is known when the kernel no longer tells.
int own_word(const Record& record) noexcept {
  if (std::uint32_t end = record.own_end.load(std::memory_order_acquire)) return static_cast<int>(end & 0xff);
  if (std::int32_t signal = record.crash.signal.load(std::memory_order_acquire)) return -signal;
  if (std::int32_t told = record.told.load(std::memory_order_acquire)) return -told;
  return 255;
}

}  // namespace

[[gnu::hot]] void SharedUsage::store(const os::Usage& used) noexcept {
  user_time.store(used.user_time, std::memory_order_relaxed);
  system_time.store(used.system_time, std::memory_order_relaxed);
  peak_memory.store(used.peak_memory, std::memory_order_relaxed);
  minor_faults.store(used.minor_faults, std::memory_order_relaxed);
  major_faults.store(used.major_faults, std::memory_order_relaxed);
}

os::Usage SharedUsage::load() const noexcept {
  return {user_time.load(std::memory_order_relaxed), system_time.load(std::memory_order_relaxed),
          peak_memory.load(std::memory_order_relaxed), minor_faults.load(std::memory_order_relaxed),
          major_faults.load(std::memory_order_relaxed)};
}

// Each step can be taken again by another process where one dies: what is not yet released still stands there.
void drop_payload_of(Record& record) noexcept {
  if (Offset payload = record.payload.load(std::memory_order_acquire)) {
    empty_call(payload);
    const bool is_there = memory::is_any_object(payload);
    if (record.payload.compare_exchange_strong(payload, 0, std::memory_order_acq_rel) && is_there)
      memory::release(payload);
  }
}

memory::Ref make_record() {
  memory::Ref ref = memory::create<Record>(memory::Kind::record, 0, 0);
  ref.as<Record>().holder_end = -1;
  return ref;
}

void tell_held(Record& record, bool held) noexcept {
  auto now = static_cast<std::uint32_t>(held ? Held::yes : Held::never);
  auto sleeps = static_cast<std::uint32_t>(Held::not_yet_child_sleeps);
  if (record.held.exchange(now, std::memory_order_acq_rel) == sleeps) os::futex_wake(record.held, os::kAll);
}

[[gnu::hot]] bool wait_until_held(Record& record) noexcept {
  const auto sleeps = static_cast<std::uint32_t>(Held::not_yet_child_sleeps);
  auto now = static_cast<std::uint32_t>(Held::not_yet);
  if (record.held.compare_exchange_strong(now, sleeps, std::memory_order_acq_rel))
    while ((now = record.held.load(std::memory_order_acquire)) == sleeps)
      if (os::futex_wait(record.held, sleeps, os::kSlice) == os::Woken::timed_out && !memory::alive(record.parent))
        return true;
  return now != static_cast<std::uint32_t>(Held::never);
}

[[gnu::hot]] bool move_on(Record& record, Phase from, Status to) noexcept {
  std::uint32_t now = record.status.load(std::memory_order_acquire);
  do {
    if (Status{now}.phase() != from) return false;
  } while (!record.status.compare_exchange_weak(now, to.raw, std::memory_order_acq_rel, std::memory_order_acquire));
  os::futex_wake(record.status, os::kAll);
  if (record.bell) {
    if (auto* bell = memory::array_at<std::atomic<std::uint32_t>>(record.bell, 1)) {
      bell->fetch_add(1, std::memory_order_release);
      os::futex_wake(*bell, os::kAll);
    }
  }
  return true;
}

int conclude(Record& record, int pidfd) noexcept {
  // Whoever reaps it (the program itself, init after its server's death, the kernel where SIGCHLD is ignored) may be a
  // moment late, and only then the kernel tells.
  os::Deadline reaped(kReapersTime);
  for (;;) {
    {
      std::lock_guard guard(concluding);
      if (status_of(record).phase() != Phase::running) return status_of(record).code();
      os::Usage used;
      std::optional<int> code;
      if (pidfd >= 0) code = os::exit_status(pidfd, &used);
      bool last_word = pidfd < 0 || record.own_end.load(std::memory_order_acquire) || reaped.passed();
      if (!code && last_word && (record.server == memory::kNobody || !memory::alive(record.server)))
        code = own_word(record);
      if (code) {
        conclude_with(record, *code, used);
        return status_of(record).code();
      }
    }
    os::futex_wait(record.status, make_status(Phase::running).raw, std::chrono::milliseconds(1));
  }
}

void conclude_with(Record& record, int code, const os::Usage& used) noexcept {
  if (used.peak_memory) record.usage.store(used);
  move_on(record, Phase::running, make_status(Phase::ended, code));
  memory::bury(record.tag);
  // Its own children are dead or dying, and nobody waits for them.
  if (code < 0) memory::sweep();
}

void set_text(char (&field)[Record::kNameBytes], std::string_view text) noexcept {
  std::size_t size = std::min(text.size(), sizeof field - 1);
  if (size < text.size())
    while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) --size;
  std::memcpy(field, text.data(), size);
  field[size] = 0;
}

[[gnu::hot]] void forget_concluding() noexcept { new (&concluding) std::mutex; }

}  // namespace mp::process
