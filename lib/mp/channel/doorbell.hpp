// Streams for those who can wait only for descriptors: poll(2), epoll, an event loop. No kernel object crosses processes: each
// process that asks for it has one helper thread ("mp-doorbell"), which sleeps on the futex words of the streams asked for
// and keeps an eventfd of each readable while there is something to take.
//
//   producer --futex--> helper thread --eventfd--> epoll_wait --> recv(), which clears the eventfd and sends the helper back to sleep
//
// What it costs: a message that finds the stream empty takes one more wake-up and some five system calls, 50-100 us in all; others nothing.
// While a registered stream is empty, the helper looks every 20 ms whether the peer lives. A process that never asks pays one load a message.
//
// *Thread safety*: everything. *Across fork*: the child has no helper and no descriptors until it asks for its own.
// *If a process is killed*: nothing of this is shared.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "mp/channel/openers.hpp"
#include "mp/channel/stream.hpp"
#include "mp/memory/ref.hpp"

namespace mp::channel {

// Something that can be waited for: ready when taking from its stream would not wait.
class Source {
 public:
  // `stop`: bit 0 set, nothing will come any more. `peer`: who keeps it from being set, if their life is to be looked at.
  Source(memory::Ref keep, Stream& stream, const std::atomic<std::uint32_t>& stop, Openers* peer) noexcept
      : keep_(std::move(keep)),
        stream_(&stream),
        stop_(&stop),
        peer_(peer) {}
  bool ready() const noexcept {
    return !stream_->empty() || (stop_->load(std::memory_order_acquire) & 1) || (peer_ != nullptr && peer_->look());
  }
  Stream& stream() const noexcept { return *stream_; }

 private:
  memory::Ref keep_;
  Stream* stream_;
  const std::atomic<std::uint32_t>* stop_;
  Openers* peer_;
};

// For how long a descriptor is wanted: while its connection is open here, or for one wait().
enum class Wanted : std::uint8_t { by_owner, by_wait };

// The descriptor of `source`'s stream, made if need be. It goes when nobody wants it any more: each wait() has to say so, the
// owner once, however often it asked. Throws OSError.
int open_doorbell(const Source& source, Wanted wanted);
void close_doorbell(const Stream& stream, Wanted wanted) noexcept;

// Something was taken: the descriptor is made to agree.
void refresh_doorbell(const Stream& stream) noexcept;

namespace detail {
inline std::atomic<int> open_doorbells{0};
}
inline bool doorbell_in_use() noexcept { return detail::open_doorbells.load(std::memory_order_relaxed) != 0; }

}  // namespace mp::channel
