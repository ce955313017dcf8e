#include "mp/channel/wait.hpp"

#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "mp/errors.hpp"
#include "mp/os/call.hpp"
#include "mp/os/futex.hpp"
#include "mp/os/spin.hpp"

namespace mp::connection {
namespace {

using Places = std::vector<std::size_t>;

// One look at everything, no waiting; descriptors for at most `limit`.
class List {
 public:
  explicit List(std::span<const Waitable> objects) : objects_(objects) {
    for (std::size_t i = 0; i < objects.size(); ++i) {
      if (objects[i].source()) continue;
      fds_.push_back({objects[i].fd(), POLLIN, 0});
    }
  }
  bool has_fds() const noexcept { return !fds_.empty(); }
  bool has_sources() const noexcept { return fds_.size() < objects_.size(); }
  bool any_source_ready() const noexcept {
    for (const Waitable& object : objects_)
      if (object.source() && object.source()->ready()) return true;
    return false;
  }

  Places ready() {
    ask_fds(fds_, std::chrono::nanoseconds(0));
    Places places;
    std::size_t next_fd = 0;
    for (std::size_t i = 0; i < objects_.size(); ++i) {
      if (objects_[i].source() ? objects_[i].source()->ready() : fds_[next_fd++].revents != 0) places.push_back(i);
    }
    return places;
  }

  // Sleeps until something may be ready, at most `limit`.
  void sleep_on_words(std::chrono::nanoseconds limit) {
    std::vector<os::FutexWaiter> words;
    for (const Waitable& object : objects_) {
      if (words.size() == os::kMaxFutexes) {
        limit = std::min(limit, std::chrono::nanoseconds(std::chrono::milliseconds(1)));
        break;
      }
      sync::EventWord& watch = object.source()->stream().watch();
      words.push_back({&watch.word(), watch.prepare()});
    }
    if (!any_source_ready()) os::futex_wait_any(words.data(), static_cast<int>(words.size()), limit);
  }
  void sleep_on_fds(std::chrono::nanoseconds limit) {
    std::vector<pollfd> fds = fds_;
    ask_fds(fds, limit);
  }
  // Descriptors and streams, these as long as they have descriptors as well.
  void sleep_on_both(const os::Deadline& deadline) {
    struct Bells {
      std::vector<const channel::Stream*> open;
      ~Bells() {
        for (const channel::Stream* stream : open) channel::close_doorbell(*stream, channel::Wanted::by_wait);
      }
    } bells;
    std::vector<pollfd> fds = fds_;
    for (const Waitable& object : objects_) {
      if (!object.source()) continue;
      fds.push_back({channel::open_doorbell(*object.source(), channel::Wanted::by_wait), POLLIN, 0});
      bells.open.push_back(&object.source()->stream());
    }
    ask_fds(fds, deadline.next(std::chrono::hours(1)));
  }

 private:
  static void ask_fds(std::vector<pollfd>& fds, std::chrono::nanoseconds limit) {
    if (fds.empty()) return;
    const auto seconds = std::chrono::floor<std::chrono::seconds>(limit);
    const timespec t{seconds.count(), (limit - seconds).count()};
    const int n = os::call(os::Call::poll, [&] { return ::ppoll(fds.data(), fds.size(), &t, nullptr); });
    if (n < 0 && errno != EINTR && errno != EAGAIN) throw OSError(errno, "ppoll", "in connection::wait()");
    for (pollfd& fd : fds) {
      if (n <= 0) fd.revents = 0;
      if (fd.revents & POLLNVAL) throw OSError(EBADF, "wait", "descriptor " + std::to_string(fd.fd));
    }
  }

  std::span<const Waitable> objects_;
  std::vector<pollfd> fds_;
};

}  // namespace

Waitable::Waitable(int fd) : fd_(fd) {
  if (fd < 0) throw ValueError("wait: " + std::to_string(fd) + " is no descriptor");
}

std::vector<std::size_t> wait(std::span<const Waitable> objects, Timeout timeout) {
  List list(objects);
  Places places = list.ready();
  if (!places.empty()) return places;
  static thread_local os::Spinner spin;
  for (const os::Deadline deadline(timeout); !deadline.passed();) {
    if (list.has_fds() && list.has_sources()) {
      list.sleep_on_both(deadline);
    } else if (list.has_sources()) {
      if (!spin([&] { return list.any_source_ready(); })) list.sleep_on_words(deadline.next(os::kSlice));
    } else {
      list.sleep_on_fds(deadline.next(std::chrono::hours(1)));
    }
    places = list.ready();
    if (!places.empty()) break;
  }
  return places;
}

}  // namespace mp::connection
