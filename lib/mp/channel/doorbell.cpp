#include "mp/channel/doorbell.hpp"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "mp/errors.hpp"
#include "mp/os/call.hpp"
#include "mp/os/futex.hpp"
#include "mp/os/limit.hpp"
#include "mp/os/private_fd.hpp"
#include "mp/os/threads.hpp"

namespace mp::channel {
namespace {

struct Bell {
  Source source;
  os::PrivateFd fd;
  bool has_owner = false;
  int waits = 0;
  bool rung = false;  // the descriptor is readable
};

// One a process. Never destroyed: the helper thread outlives main. A fork child gets a new one if its parent has used its own.
struct Doorbell {
  std::mutex mutex;
  std::map<const Stream*, Bell> bells;
  std::atomic<std::uint32_t> changed{0};  // a futex word: bells were added, removed or cleared
  bool helper_runs = false;
  Doorbell* inherited = nullptr;  // the parent's, which nobody touches again
};

Doorbell* current = new Doorbell;
std::atomic<bool> used{false};  // whether its mutex was ever taken, or is about to be

void ring(Bell& bell) noexcept {
  const std::uint64_t one = 1;
  os::call_again(os::Call::write, [&] { return ::write(bell.fd.get(), &one, sizeof one); });
  bell.rung = true;
}

void silence(Bell& bell) noexcept {
  std::uint64_t count;
  os::call_again(os::Call::read, [&] { return ::read(bell.fd.get(), &count, sizeof count); });
  bell.rung = false;
}

void tell_helper(Doorbell& d) noexcept {
  d.changed.fetch_add(1, std::memory_order_release);
  os::futex_wake(d.changed, 1);
}

[[noreturn]] void help(Doorbell& d) {
  os::LibraryThread mine;
  ::pthread_setname_np(::pthread_self(), "mp-doorbell");
  // The streams slept on stay mapped whatever becomes of their bells: the arena is never unmapped.
  std::vector<os::FutexWaiter> words;
  for (;;) {
    bool all = true;
    {
      std::lock_guard guard(d.mutex);
      words.assign(1, {&d.changed, d.changed.load(std::memory_order_acquire)});
      for (auto& [stream, bell] : d.bells) {
        if (bell.rung) continue;
        sync::EventWord& watch = bell.source.stream().watch();
        const std::uint32_t seen = watch.prepare();
        if (bell.source.ready()) ring(bell);
        else if (words.size() < os::kMaxFutexes) words.push_back({&watch.word(), seen});
        else all = false;
      }
    }
    const auto limit = !all               ? std::chrono::milliseconds(1)
                       : words.size() > 1 ? os::kSlice
                                          : std::chrono::nanoseconds(std::chrono::hours(1));
    os::futex_wait_any(words.data(), static_cast<int>(words.size()), limit);
  }
}

void start_helper(Doorbell& d) {
  os::start_quiet_thread("the doorbell of connections", [&d] { help(d); }).detach();
  d.helper_runs = true;
}

[[gnu::hot]] void after_fork() noexcept {
  if (!used.load(std::memory_order_relaxed)) return;
  used.store(false, std::memory_order_relaxed);
  auto* fresh = new Doorbell;
  fresh->inherited = current;
  current = fresh;
  detail::open_doorbells.store(0, std::memory_order_relaxed);
}
[[maybe_unused]] const bool registered = (memory::at_fork_in_child(after_fork), true);

}  // namespace

int open_doorbell(const Source& source, Wanted wanted) {
  used.store(true, std::memory_order_seq_cst);  // not after the lock, whoever may be forking
  Doorbell& d = *current;
  std::lock_guard guard(d.mutex);
  auto found = d.bells.find(&source.stream());
  if (found == d.bells.end()) {
    os::UniqueFd fd(os::call_again(os::Call::eventfd, [] { return ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }));
    if (!fd) throw os::refused(errno, "eventfd", "for the doorbell of a connection");
    if (!d.helper_runs) start_helper(d);
    found = d.bells.emplace(&source.stream(), Bell{source, os::PrivateFd(std::move(fd))}).first;
    detail::open_doorbells.fetch_add(1, std::memory_order_relaxed);
    if (source.ready()) ring(found->second);
    else tell_helper(d);
  }
  if (wanted == Wanted::by_owner) found->second.has_owner = true;
  else ++found->second.waits;
  return found->second.fd.get();
}

void close_doorbell(const Stream& stream, Wanted wanted) noexcept {
  Doorbell& d = *current;
  std::unique_lock guard(d.mutex);
  auto found = d.bells.find(&stream);
  if (found == d.bells.end()) return;
  if (wanted == Wanted::by_owner) found->second.has_owner = false;
  else --found->second.waits;
  if (found->second.has_owner || found->second.waits > 0) return;
  // The bell may hold the last reference to its stream: let it go without the lock.
  auto gone = d.bells.extract(found);
  detail::open_doorbells.fetch_sub(1, std::memory_order_relaxed);
  guard.unlock();
}

void refresh_doorbell(const Stream& stream) noexcept {
  Doorbell& d = *current;
  std::lock_guard guard(d.mutex);
  auto found = d.bells.find(&stream);
  if (found == d.bells.end() || found->second.source.ready() == found->second.rung) return;
  if (!found->second.rung) return ring(found->second);
  silence(found->second);
  tell_helper(d);
}

}  // namespace mp::channel
