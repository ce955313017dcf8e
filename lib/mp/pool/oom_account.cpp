#include "mp/pool/oom_account.hpp"

#include <utility>

namespace mp::pool {
namespace {

constexpr std::size_t kMostGroups = 16;

}  // namespace

OomAccount::OomAccount(os::OomCounter owners) { groups_.push_back(std::make_unique<Group>(std::move(owners))); }

OomAccount::Group* OomAccount::group_of(pid_t pid) noexcept try {
  const std::string file = os::oom_counter_file(pid);
  for (auto& group : groups_)
    if (group->counter.file() == file) return group.get();
  if (groups_.size() == kMostGroups) return nullptr;
  groups_.push_back(std::make_unique<Group>(file.empty() ? os::OomCounter() : os::OomCounter(file)));
  return groups_.back().get();
} catch (...) {  // no memory: the owner's must do
  return nullptr;
}

std::optional<std::uint64_t> OomAccount::claim(Group* group) noexcept {
  Group& g = group ? *group : *groups_.front();
  const auto now = g.counter.read();
  if (now && g.read && *now > *g.read) g.unclaimed += *now - *g.read;
  g.read = now;
  if (!now) return std::nullopt;
  const std::uint64_t unclaimed = g.unclaimed;
  if (unclaimed > 0) --g.unclaimed;
  return unclaimed;
}

const std::string& OomAccount::counter_file(const Group* group) const noexcept {
  return (group ? *group : *groups_.front()).counter.file();
}

void OomAccount::forget_unclaimed() noexcept {
  for (auto& group : groups_) {
    group->unclaimed = 0;
    group->read = group->counter.read();
  }
}

}  // namespace mp::pool
