// What the handles of one process share, and the list of the caller's children. Private to the room.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "mp/memory/family.hpp"
#include "mp/memory/ref.hpp"
#include "mp/os/clock.hpp"
#include "mp/os/private_fd.hpp"
#include "mp/process/launch.hpp"
#include "mp/process/record.hpp"

namespace mp::process {

enum class Relation : std::uint8_t { child, parent, self };

// What a handle and its copies share. `mutex` guards name, daemon and the step to started or closed.
struct State {
  explicit State(Relation r) : relation(r) {}
  const Relation relation;
  const Tag holder = memory::self();  // whose handle it is
  std::mutex mutex;
  std::string name, identity;
  bool daemon = false;
  Tag tag = memory::kNobody;
  pid_t pid = 0;
  memory::Ref record;      // a child's, once started
  os::PrivateFd sentinel;  // likewise
  std::atomic<bool> started{false}, closed{false};

  Record& about() const noexcept { return record.as<Record>(); }
};

// The children that this process has started and not yet seen dead.
void add_child(std::shared_ptr<State> child);
// Those of them that live; the others are reaped.
std::vector<std::shared_ptr<State>> live_children();

// Whether a started child has ended, at the latest at `deadline`; then it is reaped and its exit code is in the record.
bool wait_for_child(State& child, os::Deadline deadline) noexcept;

// SIGTERM, and after a second SIGKILL.
void end_daemon(State& child) noexcept;

// Throws ValueError unless the calling process is whom the handle belongs to.
State& own(State& state, const char* verb);

}  // namespace mp::process
