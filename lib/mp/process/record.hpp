// What the family knows of one process: who it is, what it shall run, and how it ended. Lives in the arena, so that it
// outlasts the process, and is read by whoever holds a reference: its Process object, its starter, its pool, tools.
//
// The life of `status` (each step one compare-exchange or store by the one named):
//
//   requested --server after fork, or the child as its first step--> running --whoever learns the exit code--> ended
//       |------ starter, who gives up waiting --> abandoned  (a child that comes too late sees it and ends at once)
//       |------ server, whose fork failed --> failed (with the errno)
//
// Invariants:
//  1. Everything from `tag` to `parent_name` is written before the record is published (inbox or fork), never after,
//     but `name` by the process itself.
//  2. `ended` is final; the code in it is right as far as anybody knew (Knowledge, in record.cpp).
//  3. `own_end` and `crash.signal` are written once, by the process itself, as its last acts; each is one store.
//
// *Memory ordering*: who reads `ended` (acquire) sees all that the process and its reaper wrote here.
// *If a process is killed*: its record stays as it was; its parent, its server, or whoever holds its pidfd concludes it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "mp/memory/arena.hpp"
#include "mp/memory/ref.hpp"
#include "mp/os/life.hpp"
#include "mp/os/module.hpp"

namespace mp::process {

using memory::Offset;
using memory::Tag;

// What a started process runs. The payload is an object that the record keeps alive; the result is the exit code.
using Entry = int (*)(Offset payload);

enum class Phase : std::uint8_t { requested, running, ended, failed, abandoned };

// The status word: bits 0-7 phase, bits 16-31 exit code (ended; -N for signal N) or errno (failed), signed.
struct Status {
  std::uint32_t raw = 0;
  constexpr Phase phase() const noexcept { return static_cast<Phase>(raw & 0xff); }
  constexpr int code() const noexcept { return static_cast<std::int16_t>(raw >> 16); }
};
constexpr Status make_status(Phase phase, int code = 0) noexcept {
  return {static_cast<std::uint32_t>(phase) | static_cast<std::uint32_t>(static_cast<std::uint16_t>(code)) << 16};
}

// What a process waits for before it runs anything of the user's: its parent either has a pidfd of it, or could not get one and gives
// it up. Where SIGCHLD is ignored, the kernel keeps the exit code only for those who have a pidfd already.
enum class Held : std::uint32_t { not_yet, not_yet_child_sleeps, yes, never };

inline constexpr std::uint8_t kNoMethod = 0xff;  // in a record: no start method was chosen

// Where a return address lies: `module` indexes Crash::modules, `offset` counts from the start of the module's file as
// mapped (its link-time address, for position-independent modules). module 0xffff: not in a file, `offset` is the address.
struct Frame {
  std::uint64_t offset;
  std::uint16_t module;
};

// What a fault address lies in.
enum class Place : std::uint32_t {
  unknown,      // no fault, or /proc could not be read
  unmapped,     // nothing; `mapping` is what ends in front of it, `distance` bytes away, if that is near
  stack_guard,  // where a stack may not grow to: it has overflowed
  shared,       // the family's arena
  mapped,       // `mapping`
};

// Written by the signal handler of the dying process (crash.cpp) with nothing but async-signal-safe calls; what std::terminate
// was called for, before, by its handler.
struct Crash {
  static constexpr std::size_t kMaxFrames = 64, kModuleBytes = 1536, kTypeBytes = 160, kWhatBytes = 256,
                               kMappingBytes = 160;
  std::atomic<std::int32_t> signal;        // 0 = none; stored last but for the frames: then code and address are valid
  std::int32_t code;                       // siginfo's si_code
  std::uint64_t address;                   // fault address, or the sender's pid where si_code says that it was sent
  std::int32_t thread;                     // which died
  std::atomic<std::uint32_t> frame_count;  // stored when the frames and modules are complete, innermost frame first
  std::atomic<std::uint32_t> terminated;   // 1: std::terminate was called; stored after the two texts about it
  std::atomic<Place> place;                // of the fault address; stored after the three that say more
  std::uint64_t distance;
  char access[8];                   // of the mapping: "rw-p"
  char mapping[kMappingBytes];      // its file, or "[heap]", "[stack]"; "" for memory without a name
  char exception[kTypeBytes];       // mangled name of the type of the exception in flight; "" if there was none
  char exception_what[kWhatBytes];  // its what()
  Frame frames[kMaxFrames];
  char modules[kModuleBytes];  // paths, each ended by NUL, in the order of Frame::module
};

// os::Usage in shared memory: written by the process as it ends, then by who reaps it and knows better.
struct SharedUsage {
  std::atomic<std::uint64_t> user_time, system_time, peak_memory, minor_faults, major_faults;
  void store(const os::Usage& used) noexcept;
  os::Usage load() const noexcept;
};

struct Record {
  static constexpr std::size_t kNameBytes = 96;

  std::atomic<std::uint32_t> status;   // a futex word
  std::atomic<std::uint32_t> own_end;  // 0, or 0x100 | exit code: about to _exit with it
  std::atomic<std::int32_t> pid;       // 0 until it runs
  std::atomic<std::int32_t> told;      // the last deadly signal that the family sent to it
  std::atomic<std::int32_t> refused;   // the errno for which it ended before it had begun
  std::atomic<std::uint32_t> held;     // a Held: whether its parent has a pidfd of it, and so will learn its end
  SharedUsage usage;                   // zeros until it ended
  std::atomic<Offset> inbox;           // a server's: records to start, newest first, linked by `next`
  std::atomic<Offset> payload;         // an object, counted, until the process has read it or is dead
  Offset next;                         // written by the pusher before the push
  Offset bell;                         // a futex word (LaunchOptions::bell), or 0
  Offset bell_object;                  // the object it lies in, counted
  os::ModuleAddress entry;             // an Entry
  Tag tag, parent;                     // parent: who asked for it
  Tag server;                          // who forks and reaps it; kNobody: the parent itself
  std::int32_t parent_pid;
  std::int32_t holder_end;                // tether of the parent (os/tether.hpp), -1: not tethered to it
  std::uint8_t method, default_method;    // StartMethod: how it was started; what it takes as its default
  std::uint8_t daemon, tether_to_server;  // 0 = no
  std::uint8_t awaits_holder;             // 0, or waits to be held before it runs anything of the user's
  char name[kNameBytes];                  // NUL-terminated, cut to fit
  char identity[kNameBytes];              // "1:2" of Process-1:2, the prefix of its children's
  char parent_name[kNameBytes];
  Crash crash;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<std::uint32_t>::is_always_lock_free);
static_assert(offsetof(Record, status) == 0 && sizeof(Record) <= 4096 - sizeof(memory::Header));

// A new record with nothing but zeros (and no tether) in it.
memory::Ref make_record();

// Lets go of what a process was given, and of what that names: when it has read it, or is dead.
void drop_payload_of(Record& record) noexcept;
// Releases the objects that a payload names, if it is a call (process.cpp), one after another.
void empty_call(Offset payload) noexcept;

// The calling process's own record; nothing in a process that was not started through this library.
Record* own_record() noexcept;

inline Status status_of(const Record& record) noexcept { return {record.status.load(std::memory_order_acquire)}; }

// The parent's and the child's side of Record::held; the child waits only as long as its parent lives. False: it shall end.
void tell_held(Record& record, bool held) noexcept;
bool wait_until_held(Record& record) noexcept;

// Moves `record` from one phase to the next, if it is in that, then wakes who waits for it and rings its bell.
bool move_on(Record& record, Phase from, Status to) noexcept;

// Empties a server's inbox: `visit(offset, record)` for each request, newest first. Its entry in the table of members keeps it, not the
// inbox. False if the list could not be read to its end: another process has written something else there.
template <class Visit>
bool walk_inbox(Record& server, Visit visit) {
  for (Offset next = server.inbox.exchange(0, std::memory_order_acq_rel); next != 0;) {
    const Offset offset = next;
    auto* record = memory::try_object<Record>(offset, memory::Kind::record);
    if (record == nullptr) return false;
    // A request that has been visited names itself: a list that leads back to it ends there.
    next = std::exchange(record->next, offset);
    if (next == offset) return false;
    visit(offset, *record);
  }
  return true;
}

// How the process behind `record` ended, once it has: from the kernel (`pidfd`, -1 if none; reaps an own child), else
// from what the process said itself, else from the signal that the family sent, else 255, as Python says when it does
// not know. Writes it into the record, wakes those who wait, and retires the member. Call only once it has ended.
// Waits for the process's server, which alone may know, as long as that lives.
int conclude(Record& record, int pidfd) noexcept;

// The same for a server, who got code and usage with the child it reaps.
void conclude_with(Record& record, int code, const os::Usage& used) noexcept;

// Its text, however it ends.
inline std::string_view text_of(const char (&field)[Record::kNameBytes]) noexcept {
  const auto* end = static_cast<const char*>(std::memchr(field, 0, sizeof field));
  return {field, end != nullptr ? static_cast<std::size_t>(end - field) : sizeof field};
}

// Copies `text` into a bounded, NUL-terminated field, cut at a character of UTF-8.
void set_text(char (&field)[Record::kNameBytes], std::string_view text) noexcept;

}  // namespace mp::process
