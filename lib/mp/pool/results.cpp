#include "mp/pool/results.hpp"

#include "mp/errors.hpp"

namespace mp::pool {

void Arrivals::push(std::size_t id) {
  {
    std::lock_guard guard(mutex_);
    ids_.push_back(id);
  }
  arrived_.notify_one();
}

std::optional<std::size_t> Arrivals::pop(const os::Deadline& deadline) {
  std::unique_lock guard(mutex_);
  while (ids_.empty()) {
    auto left = deadline.next(std::chrono::hours(1));
    if (left == left.zero()) return std::nullopt;
    arrived_.wait_for(guard, left);
  }
  std::size_t id = ids_.front();
  ids_.pop_front();
  return id;
}

void throw_map_timeout(bool whole) {
  throw TimeoutError(whole ? "the map's deadline has passed; what had not begun is cancelled"
                           : "the next result is not there yet");
}

}  // namespace mp::pool
