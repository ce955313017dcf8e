// Pipe() and Connection: Python's multiprocessing.Pipe and connection.Connection, of any size of message, between any two
// processes of the family. How they differ from Python's:
//  - Several threads and processes may send, and receive, at the same end: a message is taken whole, by one of them.
//  - A process killed in the middle of send() or recv() leaves no half message behind.
//  - An end belongs to those that it was given to: a forked child that merely inherited it holds no end of file back.
//
//   auto [here, there] = mp::Pipe();
//   mp::Process child([there = std::move(there)]() mutable { there.send(there.recv<std::string>() + "!"); });
//
// A Connection is a handle of one end. Copies are handles of the same end, also in other processes: an end is gone when its last handle
// has been closed, destroyed or died with its process. In a fork child, what was captured by value, moved or passed as
// argument counts as open from the start; what it reached by reference (or through fork(2) itself) from its first use there: there the parent
// must keep its own handle open until then.
//
// *Thread and process safety*: distinct handles from any threads of any processes, whatever end they name; one handle from one
// thread at a time, but for send() beside recv().
// *Memory ordering*: what came before a send() happens before the recv() that returns its message.
// *If a process is killed*: its handles are closed; the other end learns of it within 50 ms: recv() ends with EOFError once everything
// was received, send() with BrokenPipeError. A message that it had just taken is lost with it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "mp/channel/codec.hpp"
#include "mp/channel/doorbell.hpp"
#include "mp/channel/pipe_state.hpp"
#include "mp/errors.hpp"
#include "mp/memory/family.hpp"
#include "mp/memory/ref.hpp"
#include "mp/os/clock.hpp"
#include "mp/pickle/value.hpp"

namespace mp {

class Connection {
 public:
  Connection(const Connection& other);
  Connection(Connection&& other) noexcept;
  Connection& operator=(Connection other) noexcept;
  ~Connection() { close(); }

  // Sends a value. Waits for room while 1 MiB is under way. Throws BrokenPipeError when the other end is gone; PicklingError or
  // what T's mp_pickle throws, SharedMemoryFull: nothing was sent then; OSError when this handle is closed or of the wrong direction.
  template <class T>
  void send(const T& value);
  void send(const char* text) { send(std::string(text)); }

  // Receives a value. Waits for it. Throws EOFError when the other end is gone and everything was received; UnpicklingError when the
  // message is no T (it is gone then); OSError as send().
  template <class T>
  T recv();
  // The same, but nothing if no message is there (in time).
  template <class T>
  std::optional<T> try_recv() {
    return recv_within<T>(std::chrono::seconds(0));
  }
  template <class T, class Rep, class Period>
  std::optional<T> recv_for(std::chrono::duration<Rep, Period> limit) {
    return recv_within<T>(limit);
  }

  // Messages of bytes: `size` of them (default: the rest) from `offset` on. Throws ValueError for a part that is none.
  void send_bytes(std::span<const std::byte> bytes, std::ptrdiff_t offset = 0, std::optional<std::ptrdiff_t> size = {});
  void send_bytes(std::string_view bytes, std::ptrdiff_t offset = 0, std::optional<std::ptrdiff_t> size = {}) {
    send_bytes(std::as_bytes(std::span(bytes)), offset, size);
  }
  // The next message's bytes; of a value, those that it was written as. One longer than `maxlength` is an OSError, and
  // this handle can receive no more.
  std::string recv_bytes(std::optional<std::size_t> maxlength = {});
  // Into `buffer` from `offset` on; how many. Throws BufferTooShort, which holds the message, ValueError for a bad offset.
  std::size_t recv_bytes_into(std::span<std::byte> buffer, std::ptrdiff_t offset = 0);

  // Whether recv() would not wait: a message or the end of file is there. Waits for it for as long as told.
  bool poll(Timeout timeout = std::chrono::seconds(0));

  // A descriptor that is readable when poll() is true, for poll(2) and epoll, until the last handle of this end in this process is closed.
  // Take it out of an epoll set before that: a fork just begun elsewhere may keep it alive for a moment, as any descriptor.
  // A helper thread serves it (doorbell.hpp says at what cost): inside this library, connection::wait() is cheaper. Where another
  // process receives at the same end as well, it may be readable for nothing. Throws OSError.
  int fileno();

  // Lets go of the end. Any number of times.
  void close() noexcept;
  bool closed() const noexcept { return !pipe_; }
  bool readable() const noexcept { return pipe_ && receives_; }
  bool writable() const noexcept { return pipe_ && sends_; }

  friend bool operator==(const Connection& a, const Connection& b) noexcept {
    return a.pipe_ == b.pipe_ && a.side_ == b.side_;
  }

  // What connection::wait() looks at. Throws as recv().
  channel::Source source();

  void mp_pickle(pickle::Writer& w) const;
  static Connection mp_unpickle(pickle::Reader& r);

 private:
  friend std::pair<Connection, Connection> Pipe(bool duplex);
  Connection(memory::Ref pipe, std::uint8_t side);

  channel::PipeState& state() const noexcept { return pipe_.as<channel::PipeState>(); }
  channel::Openers& own() const noexcept { return state().openers[side_]; }
  channel::Openers& peer() const noexcept { return state().openers[1 - side_]; }
  channel::Stream& incoming() const noexcept { return state().streams[side_]; }
  channel::Stream& outgoing() const noexcept { return state().streams[1 - side_]; }
  // This process counts as having the end open, if it did not yet with this handle: a new one, or a fork child's copy.
  void claim() {
    const memory::Tag me = memory::self();
    if (std::atomic_ref<memory::Tag>(owner_).load(std::memory_order_acquire) != me) [[unlikely]]
      own().attach(me, owner_);
  }
  void check_sending() {
    if (!writable()) [[unlikely]]
      refuse("send", "on a connection that only receives");
    claim();
  }
  void check_receiving() {
    if (!readable()) [[unlikely]]
      refuse("recv", "on a connection that cannot receive");
    claim();
  }
  [[noreturn]] void refuse(const char* call, const char* why);
  void note() const noexcept;
  [[noreturn]] void throw_broken() const;
  [[noreturn]] static void throw_end_of_file();
  bool wait_incoming(const os::Deadline& deadline);

  template <class Try>
  void put(Try attempt);
  template <class Try>
  bool take(Try attempt, Timeout timeout);
  bool take_parcel(channel::Parcel& parcel, Timeout timeout);
  template <class T>
  std::optional<T> recv_within(Timeout timeout);
  template <class T>
  std::optional<T> recv_any_within(Timeout timeout);

  memory::Ref pipe_;
  memory::Tag owner_ = memory::kNobody;  // the process in which this handle counts as open
  std::uint8_t side_ = 0;
  bool receives_ = false, sends_ = false;  // as far as this handle may
};

// Two connected ends. One-way if not `duplex`: the first receives, the second sends. Throws SharedMemoryFull, OSError.
std::pair<Connection, Connection> Pipe(bool duplex = true);

// ---- bodies --------------------------------------------------------------------------------------------------------

template <class Try>
[[gnu::hot]] void Connection::put(Try attempt) {
  check_sending();
  // Where somebody is said to wait for it, it is sent first: who wakes lives. A look at the clock, and once a slice at the kernel's word,
  // would keep it waiting.
  if (peer().gone() || (!outgoing().is_awaited() && peer().look())) [[unlikely]]
    throw_broken();
  channel::Put put;
  while ((put = attempt()) == channel::Put::full) [[unlikely]] {
    outgoing().wait_writable(os::Deadline(), peer().state());
    if (peer().look()) throw_broken();
  }
  if (put == channel::Put::unheard && peer().look()) [[unlikely]]
    throw_broken();
}

template <class T>
[[gnu::hot]] void Connection::send(const T& value) {
  const std::uint64_t type = pickle::fingerprint<T>();
  static_cast<void>(pickle::detail::type_note<T>);
  if constexpr (channel::kSmallFlat<T>) {
    std::byte bytes[sizeof type + sizeof(T)];
    std::memcpy(bytes, &type, sizeof type);
    std::memcpy(bytes + sizeof type, &value, sizeof(T));
    put([&] { return outgoing().try_put_flat<sizeof bytes>(bytes); });
  } else {
    check_sending();
    channel::Outgoing message(sizeof type + channel::expected_size(value));
    message.writer().put(type);
    pickle::dump(message.writer(), value);
    message.seal();
    put([&] { return message.try_put(outgoing()); });
  }
}

// Whether `attempt` took something before the time was up. Throws EOFError.
template <class Try>
[[gnu::hot]] bool Connection::take(Try attempt, Timeout timeout) {
  check_receiving();
  if (!attempt() && !(timeout.forever() && incoming().nap(peer().state()) && attempt())) [[unlikely]] {
    const os::Deadline deadline(timeout);
    do {
      if (!wait_incoming(deadline)) return false;
    } while (!attempt());
  }
  if (channel::doorbell_in_use()) [[unlikely]]
    channel::refresh_doorbell(incoming());
  return true;
}

template <class T>
[[gnu::hot]] std::optional<T> Connection::recv_within(Timeout timeout) {
  using channel::Got;
  if constexpr (channel::kSmallFlat<T> && std::is_default_constructible_v<T>) {
    std::byte bytes[sizeof(std::uint64_t) + sizeof(T)];
    Got got = Got::empty;
    if (!take([&] { return (got = incoming().try_take_flat<sizeof bytes>(bytes)) != Got::empty; }, timeout))
      return std::nullopt;
    if (got == Got::done) {
      pickle::Reader reader(bytes);
      return pickle::load_message<T>(reader);
    }
  }
  return recv_any_within<T>(timeout);
}

// Apart from the above: its frame holds a whole small message, kilobytes that a flat one need not step over.
template <class T>
[[gnu::noinline]] std::optional<T> Connection::recv_any_within(Timeout timeout) {
  channel::Parcel parcel;
  if (!take_parcel(parcel, timeout)) return std::nullopt;
  pickle::Reader reader(parcel.payload());
  std::optional<T> value(pickle::load_message<T>(reader));
  pickle::detail::expect_end(reader, pickle::type_name<T>());
  return value;
}

template <class T>
T Connection::recv() {
  return *recv_within<T>(Timeout());
}

}  // namespace mp
