#include "mp/channel/connection.hpp"

#include <atomic>
#include <cerrno>
#include <cstring>

#include "mp/pickle/handle.hpp"

namespace mp {

using channel::kBytesMessage;

// ---- handles -------------------------------------------------------------------------------------------------------

Connection::Connection(memory::Ref pipe, std::uint8_t side)
    : pipe_(std::move(pipe)),
      side_(side),
      receives_(state().duplex || side == 0),
      sends_(state().duplex || side == 1) {
  claim();
}

Connection::Connection(const Connection& other)
    : pipe_(other.pipe_),
      side_(other.side_),
      receives_(other.receives_),
      sends_(other.sends_) {
  if (!pipe_) return;
  claim();
  note();
}

Connection::Connection(Connection&& other) noexcept
    : pipe_(std::move(other.pipe_)),
      owner_(other.owner_),
      side_(other.side_),
      receives_(other.receives_),
      sends_(other.sends_) {
  if (pipe_) note();
}

Connection& Connection::operator=(Connection other) noexcept {
  std::swap(pipe_, other.pipe_);
  std::swap(owner_, other.owner_);
  std::swap(side_, other.side_);
  std::swap(receives_, other.receives_);
  std::swap(sends_, other.sends_);
  return *this;
}

// A closure that holds this handle keeps the end open while it travels, and names it to keep_in_child().
void Connection::note() const noexcept {
  if (auto* recorder = memory::Recorder::current()) [[unlikely]]
    recorder->note(state().tokens[side_]);
}

void Connection::close() noexcept {
  if (!pipe_) return;
  const memory::Tag me = memory::self();
  if (own().detach(me, owner_)) state().hang_up();
  if (channel::doorbell_in_use() && !own().has(me)) channel::close_doorbell(incoming(), channel::Wanted::by_owner);
  pipe_ = {};
}

void Connection::mp_pickle(pickle::Writer& w) const {
  if (!pipe_) throw ValueError("a closed connection cannot be sent");
  pickle::dump_ref(w, pipe_);
  w.put(side_);
  w.carry(state().tokens[side_]);
}

Connection Connection::mp_unpickle(pickle::Reader& r) {
  memory::Ref pipe = pickle::load_ref<channel::PipeState>(r, memory::Kind::stream);
  const auto side = r.get<std::uint8_t>("connection");
  if (side > 1) pickle::malformed("connection", "it is neither end of a pipe");
  return Connection(std::move(pipe), side);
}

std::pair<Connection, Connection> Pipe(bool duplex) {
  memory::Ref pipe = channel::make_pipe(duplex);
  Connection first(pipe, 0), second(pipe, 1);
  return {std::move(first), std::move(second)};
}

// ---- what both directions need -------------------------------------------------------------------------------------

void Connection::refuse(const char* call, const char* why) {
  if (!pipe_) throw OSError(EBADF, call, "on a closed connection");
  claim();
  throw OSError(EBADF, call, why);
}

void Connection::throw_broken() const {
  throw BrokenPipeError(EPIPE, "send", "on a connection whose other end is gone");
}

void Connection::throw_end_of_file() { throw EOFError("recv on a connection whose other end is gone: end of file"); }

// False once time is up. Throws EOFError.
bool Connection::wait_incoming(const os::Deadline& deadline) {
  for (;;) {
    if (!incoming().empty()) return true;
    if (peer().look()) {
      // What was sent before the end went is there by now.
      if (!incoming().empty()) return true;
      throw_end_of_file();
    }
    if (!incoming().wait_readable(deadline, peer().state())) return false;
  }
}

bool Connection::take_parcel(channel::Parcel& parcel, Timeout timeout) {
  return take([&] { return incoming().try_take(parcel) == channel::Got::done; }, timeout);
}

// ---- bytes ---------------------------------------------------------------------------------------------------------

void Connection::send_bytes(std::span<const std::byte> bytes, std::ptrdiff_t offset,
                            std::optional<std::ptrdiff_t> size) {
  check_sending();
  const auto length = static_cast<std::ptrdiff_t>(bytes.size());
  if (offset < 0) throw ValueError("send_bytes: the offset is negative");
  if (offset > length) throw ValueError("send_bytes: the buffer ends before the offset");
  if (size && *size < 0) throw ValueError("send_bytes: the size is negative");
  if (size && *size > length - offset) throw ValueError("send_bytes: the buffer ends before offset + size");
  bytes = bytes.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(size.value_or(length - offset)));
  channel::Outgoing message(sizeof kBytesMessage + bytes.size());
  message.writer().put(kBytesMessage);
  message.writer().write(bytes.data(), bytes.size());
  message.seal();
  put([&] { return message.try_put(outgoing()); });
}

namespace {

std::span<const std::byte> without_type(const channel::Parcel& parcel) {
  pickle::Reader reader(parcel.payload());
  reader.get<std::uint64_t>("message");
  return parcel.payload().subspan(sizeof(std::uint64_t));
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

std::string Connection::recv_bytes(std::optional<std::size_t> maxlength) {
  channel::Parcel parcel;
  take_parcel(parcel, Timeout());
  const auto bytes = without_type(parcel);
  if (maxlength && bytes.size() > *maxlength) {
    receives_ = false;
    throw OSError(EMSGSIZE, "recv_bytes", "a message of " + std::to_string(bytes.size()) + " bytes");
  }
  return text_of(bytes);
}

std::size_t Connection::recv_bytes_into(std::span<std::byte> buffer, std::ptrdiff_t offset) {
  if (offset < 0) throw ValueError("recv_bytes_into: the offset is negative");
  if (offset > static_cast<std::ptrdiff_t>(buffer.size()))
    throw ValueError("recv_bytes_into: the buffer ends before the offset");
  channel::Parcel parcel;
  take_parcel(parcel, Timeout());
  const auto bytes = without_type(parcel);
  buffer = buffer.subspan(static_cast<std::size_t>(offset));
  if (bytes.size() > buffer.size()) throw BufferTooShort(text_of(bytes));
  if (!bytes.empty()) std::memcpy(buffer.data(), bytes.data(), bytes.size());
  return bytes.size();
}

// ---- waiting -------------------------------------------------------------------------------------------------------

bool Connection::poll(Timeout timeout) {
  check_receiving();
  try {
    if (wait_incoming(os::Deadline(timeout))) return true;
  } catch (const EOFError&) {
    return true;
  }
  if (channel::doorbell_in_use()) channel::refresh_doorbell(incoming());
  return false;
}

channel::Source Connection::source() {
  check_receiving();
  return {pipe_, incoming(), peer().state(), &peer()};
}

int Connection::fileno() { return channel::open_doorbell(source(), channel::Wanted::by_owner); }

}  // namespace mp
