// Which kills of the kernel's OOM killer hit workers. The kernel only counts them, per control group; a pool's supervisor compares the
// count when a worker dies of a SIGKILL that is not ours, and each kill is laid to one death at most.
//
// *Thread safety*: none; the supervisor's.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mp/os/oom.hpp"

namespace mp::pool {

class OomAccount {
 public:
  // A group whose counter is read from now on. Its address stays as long as the account.
  struct Group {
    explicit Group(os::OomCounter c) noexcept : counter(std::move(c)), read(counter.read()) {}
    os::OomCounter counter;
    std::optional<std::uint64_t> read;  // as last read
    std::uint64_t unclaimed = 0;        // counted since, and nobody's yet
  };

  // `owners`: the group that is asked where a worker's own is not known.
  explicit OomAccount(os::OomCounter owners);

  // The group that process `pid` is in now; null where it cannot be told, or there are more than 16.
  Group* group_of(pid_t pid) noexcept;
  // For a worker that has died of SIGKILL: how many kills of its group are nobody's yet, of which it claims one. Nothing where the
  // counter cannot be read. Null: the owner's group.
  std::optional<std::uint64_t> claim(Group* group) noexcept;
  const std::string& counter_file(const Group* group) const noexcept;
  // Kills of long ago are no worker's. A few us for each group.
  void forget_unclaimed() noexcept;

 private:
  std::vector<std::unique_ptr<Group>> groups_;  // the owner's first
};

}  // namespace mp::pool
