#include "mp/pool/future.hpp"

#include <deque>

namespace mp::pool {

// Outlives the Gathering while callbacks still point to it.
struct Gathering::Inbox {
  std::mutex mutex;
  std::condition_variable arrived;
  std::deque<std::size_t> done;
};

Gathering::Gathering(const std::vector<FutureState*>& states) : inbox_(std::make_shared<Inbox>()) {
  std::unordered_set<FutureState*> seen;
  for (std::size_t i = 0; i < states.size(); ++i) {
    if (!seen.insert(states[i]).second) continue;
    ++left_;
    states[i]->add_callback([inbox = inbox_, i] {
      {
        std::lock_guard guard(inbox->mutex);
        inbox->done.push_back(i);
      }
      inbox->arrived.notify_one();
    });
  }
}

Gathering::~Gathering() = default;

std::optional<std::size_t> Gathering::next(const os::Deadline& deadline) {
  std::unique_lock guard(inbox_->mutex);
  while (inbox_->done.empty()) {
    auto left = deadline.next(std::chrono::hours(1));
    if (left == left.zero()) return std::nullopt;
    inbox_->arrived.wait_for(guard, left);
  }
  std::size_t index = inbox_->done.front();
  inbox_->done.pop_front();
  --left_;
  return index;
}

}  // namespace mp::pool
