// Handles: offsets that another process wrote, of objects that are there, are not, or have been written over.
#include "fuzz.hpp"
#include "mp/channel/connection.hpp"
#include "mp/channel/queue.hpp"
#include "mp/sync/array.hpp"
#include "mp/sync/barrier.hpp"
#include "mp/sync/condition.hpp"
#include "mp/sync/event.hpp"
#include "mp/sync/lock.hpp"
#include "mp/sync/semaphore.hpp"
#include "mp/sync/value.hpp"

namespace {

using namespace mp::pickle;
using mp::memory::Kind;

// One handle of each kind and what it travels as.
struct Family {
  mp::Lock lock;
  mp::RLock rlock;
  mp::Semaphore semaphore{1};
  mp::Condition condition;
  mp::Event event;
  mp::Barrier barrier{2};
  mp::RawValue<int> value{1};
  mp::RawArray<int> array{8};
  mp::Queue<int> queue;
  std::pair<mp::Connection, mp::Connection> pipe = mp::Pipe();
};

template <class T>
fuzz::memory_offset offset_of(const T& handle) {
  Writer w;
  handle.mp_pickle(w);
  Reader r(w.bytes());
  return r.get<std::uint64_t>("handle");
}

constexpr unsigned kKinds = 10;
constexpr std::size_t kForged = 64;  // where a forged object lies in its block: aligned as an array is

fuzz::memory_offset offset_of(const Family& f, unsigned kind) {
  switch (kind) {
    case 0: return offset_of(f.lock);
    case 1: return offset_of(f.rlock);
    case 2: return offset_of(f.semaphore);
    case 3: return offset_of(f.condition);
    case 4: return offset_of(f.event);
    case 5: return offset_of(f.barrier);
    case 6: return offset_of(f.value);
    case 7: return offset_of(f.array);
    case 8: return offset_of(f.queue);
    default: return offset_of(f.pipe.first);
  }
}

// Reads a handle of that kind, and of what has no lock uses all that it names.
void read(unsigned kind, Reader& in) {
  switch (kind) {
    case 0: mp::Lock::mp_unpickle(in); break;
    case 1: mp::RLock::mp_unpickle(in); break;
    case 2: mp::Semaphore::mp_unpickle(in); break;
    case 3: mp::Condition::mp_unpickle(in); break;
    case 4: mp::Event::mp_unpickle(in); break;
    case 5: mp::Barrier::mp_unpickle(in); break;
    case 6: {
      auto value = mp::RawValue<int>::mp_unpickle(in);
      const volatile int seen = value.get();
      static_cast<void>(seen);
      break;
    }
    case 7: {
      auto array = mp::RawArray<int>::mp_unpickle(in);
      volatile int sum = 0;
      for (std::size_t i = 0; i < array.size(); i += 64) sum = sum ^ array[i];
      break;
    }
    case 8: mp::Queue<int>::mp_unpickle(in); break;
    default: mp::Connection::mp_unpickle(in); break;
  }
}

}  // namespace

std::vector<fuzz::Seed> fuzz::seeds() {
  constexpr std::uint8_t good = 0, forged = 1;
  std::vector<Seed> seeds;
  const char* const names[] = {"lock",    "rlock", "semaphore", "condition", "event",
                               "barrier", "value", "array",     "queue",     "connection"};
  for (std::uint8_t kind = 0; kind < kKinds; ++kind) seeds.push_back({names[kind], raw(kind, good, kind, good)});
  // An array in memory that was written over: its header, then its size.
  const std::uint64_t type = mp::sync::kElementType<int>;
  seeds.push_back(
      {"forged-array", raw(std::uint8_t{7}, forged, std::uint32_t{1}, Kind::array, type, std::uint64_t{1} << 40)});
  seeds.push_back({"forged-value", raw(std::uint8_t{6}, forged, std::uint32_t{1}, Kind::value, type, 5)});
  seeds.push_back({"lock-as-queue", raw(std::uint8_t{8}, good, std::uint8_t{0}, good)});
  seeds.push_back(
      {"beyond-the-arena", raw(std::uint8_t{0}, good, std::uint8_t{0}, std::uint8_t{5}, std::uint16_t{16})});
  seeds.push_back({"in-the-tables", raw(std::uint8_t{0}, good, std::uint8_t{0}, std::uint8_t{6}, std::uint16_t{4096})});
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input in(data, size);
  const unsigned kind = in.below(kKinds);
  {
    const Family family;
    const fuzz::Prey prey;
    Writer message;
    const bool is_forged = in.below(2) == 1;
    if (!is_forged) {
      // Any object, named well, a little beside it or not at all.
      message.put(prey.choose(in, offset_of(family, in.below(kKinds))));
    } else {
      // What looks like an object: a header and the first bytes of a body, in a block of their own. The rest is zero.
      struct {
        mp::memory::Header header{{0}, Kind::none, 0};
        std::uint64_t body[2] = {};
      } forged;
      forged.header.holders = in.get<std::uint32_t>() % 4;
      forged.header.kind = in.get<Kind>();
      forged.header.type = in.get<std::uint64_t>();
      for (auto& word : forged.body) word = in.get<std::uint64_t>();
      std::memcpy(mp::memory::at<std::byte>(prey.small()) + kForged - sizeof forged.header,
                  static_cast<const void*>(&forged), sizeof forged);
      message.put(prey.small() + kForged);
    }
    // A lock that belongs to it, or its side.
    message.put(in.get<std::uint8_t>());
    message.put(offset_of(family, in.below(2)));
    Reader reader(message.bytes());
    fuzz::refused([&] { read(kind, reader); });
    if (is_forged && in.below(2) == 1) mp::memory::try_release(prey.small() + kForged);  // its destroyer, perhaps
  }
  return 0;
}
