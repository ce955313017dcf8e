// Streams: what a queue's or pipe's segments hold when another process has written over them. Messages are put, the memory is damaged as
// the input says, and then everything that consumers, producers and the destroyer do must end in a message, in nothing, or in
// UnpicklingError.
#include <algorithm>
#include <list>
#include <map>

#include "fuzz.hpp"
#include "mp/channel/codec.hpp"
#include "mp/channel/queue_base.hpp"
#include "mp/channel/stream.hpp"

// The words of a stream that lead somewhere.
namespace mp::channel {
struct StreamDamage {
  Stream& s;
  std::atomic<std::uint64_t>& word(unsigned which) {
    switch (which) {
      case 0: return s.head_;
      case 1: return s.tail_;
      case 2: return s.first_;
      case 3: return s.spare_;
      case 4: return s.put_bytes_[0];
      case 5: return s.got_bytes_[0];
      case 6: return s.take_intent_;
      default: return reinterpret_cast<std::atomic<std::uint64_t>&>(s.takers_);  // its chain
    }
  }
  static constexpr unsigned kWords = 8;
  Place tail() const { return {s.tail_.load()}; }
};
}  // namespace mp::channel

namespace {

using namespace mp::channel;
using Damage = StreamDamage;

// What messages carry. A damaged record may name it as often as it likes: each time it is read, one count of it goes.
struct Carrier {
  mp::memory::Ref ref = mp::memory::create<std::uint64_t>(mp::memory::Kind::value, 0, 0, 1u);
  Carrier() { holders() += 1u << 30; }
  ~Carrier() { holders() = 1; }
  std::atomic<std::uint32_t>& holders() const { return mp::memory::header_of(ref.offset()).holders; }
};

// One offset as it stands in the word of that kind.
std::uint64_t as_word(unsigned which, fuzz::memory_offset offset, std::uint64_t other) {
  return which < 2
             ? make_place(offset / kSegment * kSegment, other % 0x1fff * 8, static_cast<std::uint32_t>(other >> 35)).raw
             : offset;
}

void put(Stream& stream, std::size_t size, bool carries, const Carrier& carried) {
  Outgoing message(size);
  for (std::size_t i = 0; i < size; ++i) message.writer().put(static_cast<std::uint8_t>(i));
  if (carries) message.writer().carry(carried.ref.offset());
  message.seal();
  message.try_put(stream);
}

void take_all(Stream& stream) {
  static Parcel parcel;
  std::uint64_t eight[1];
  // More than there can be messages in what it holds.
  for (int i = 0; i < 200'000; ++i) {
    if (i % 2 == 0) {
      if (const Got got = stream.try_take_flat<8>(eight); got == Got::done) continue;
      else if (got == Got::empty) return;
    }
    if (stream.try_take(parcel) == Got::empty) return;
    fuzz::refused([] { static_cast<void>(decode<std::vector<std::string>>(parcel.payload())); });
    fuzz::refused([] { static_cast<void>(decode<std::map<int, std::list<bool>>>(parcel.payload())); });
    parcel.clear();
  }
  std::abort();  // it gives for ever
}

void use(Stream& stream, unsigned how, const Carrier& carried) {
  static_cast<void>(stream.empty());
  static_cast<void>(stream.size());
  static_cast<void>(stream.full());
  if (how & 1) fuzz::refused([&] { put(stream, 8, false, carried); });
  if (how & 2) fuzz::refused([&] { put(stream, 100, true, carried); });
  if (how & 4) fuzz::refused([&] { take_all(stream); });
  if (how & 8) static_cast<void>(stream.finish_one());
  if (how & 16) static_cast<void>(stream.all_finished());
  if (how & 32) static_cast<void>(stream.discard());
  static_cast<void>(stream.empty());
}

}  // namespace

std::vector<fuzz::Seed> fuzz::seeds() {
  // tracked; messages; damaged bytes: where, how many, which; damaged words: which, where, the rest; how it is used
  constexpr std::uint8_t one = 1, none = 0, all = 63;
  const auto record = [&](std::uint64_t word) {
    return raw(one, std::uint8_t{2}, one, std::uint16_t{0}, std::uint8_t{8}, word, none, all);
  };
  const auto word = [&](std::uint8_t which, std::uint8_t how, std::uint64_t number) {
    return raw(none, std::uint8_t{3}, none, one, which, how, number, std::uint64_t{0}, all);
  };
  return {
      {"undamaged", raw(one, std::uint8_t{7}, none, none, all)},
      {"length-beyond-the-segment", record(make_record(Form::small, 65'535, 0))},
      {"small-beyond-the-largest", record(make_record(Form::small, 60'000, 0))},
      {"carries-more-than-it-holds", record(make_record(Form::small, 8, 8'000))},
      {"blob-that-is-none", record(make_record(Form::blob, 8, 0))},
      {"link-to-nowhere", record(make_record(Form::link, 8, 0))},
      {"unknown-form", record(make_record(static_cast<Form>(9), 8, 0))},
      {"no-mark", record(0x1234)},
      {"head-beyond-the-arena", word(0, 5, 0)},
      {"tail-beyond-the-arena", word(1, 5, 0)},
      {"spare-that-is-no-segment", word(3, 2, 17)},
      {"chain-of-takers-astray", word(7, 2, 8)},
  };
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input in(data, size);
  const fuzz::Prey prey;
  const Carrier carried;
  const bool tracked = in.below(2) == 1;
  mp::memory::Ref ref = mp::memory::create<QueueState>(
      mp::memory::Kind::queue, 0, 0, Stream::Options{.items = 1000, .bytes = 1 << 20, .track_takers = tracked});
  Stream& stream = ref.as<QueueState>().stream;
  Damage damage{stream};

  // From a few small messages to ones that fill several segments, large ones, and ones that carry.
  const unsigned messages = in.get<std::uint8_t>();
  std::vector<fuzz::memory_offset> all_segments, blobs;
  for (unsigned i = 0; i < messages % 32; ++i) {
    const bool is_large = i % 4 == 3;
    put(stream, is_large ? 9'000 : messages / 32 * 1'000 + 8, i % 3 == 2, carried);
    const Place tail = damage.tail();
    if (all_segments.empty() || all_segments.back() != tail.segment()) all_segments.push_back(tail.segment());
    if (is_large) blobs.push_back(*mp::memory::at<fuzz::memory_offset>(tail.segment() + tail.position() - 8));
  }
  const fuzz::memory_offset segments[] = {damage.word(2).load(), damage.tail().segment()};

  // Bytes of its segments.
  for (unsigned i = in.below(8); i > 0; --i) {
    const fuzz::memory_offset segment = segments[i % 2];
    const std::size_t at = in.get<std::uint16_t>();
    const fuzz::Bytes bytes = in.take(std::min<std::size_t>(in.get<std::uint8_t>(), kSegment - at));
    if (segment == 0 || bytes.empty()) continue;
    std::memcpy(mp::memory::at<std::byte>(segment) + at, bytes.data(), bytes.size());
    // What may be read as the name of an object there must not be that of another's.
    auto* words = mp::memory::at<fuzz::memory_offset>(segment);
    for (std::size_t word = at / 8; word < std::min(at + bytes.size() + 7, kSegment) / 8; ++word)
      if (std::find(std::begin(segments), std::end(segments), words[word]) == std::end(segments))
        words[word] = prey.mine(words[word]);
  }
  // Words that lead somewhere.
  for (unsigned i = in.below(8); i > 0; --i) {
    const unsigned which = in.below(Damage::kWords);
    const fuzz::memory_offset offset = prey.choose(in, segments[which % 2]);
    damage.word(which).store(
        as_word(which, which < 2 ? offset / kSegment * kSegment : offset, in.get<std::uint64_t>()));
  }
  use(stream, in.get<std::uint8_t>(), carried);

  // What it no longer names stays, by intent: a leak, but not of the target's.
  ref = {};
  for (const fuzz::memory_offset segment : all_segments) mp::memory::try_deallocate(segment);
  for (const fuzz::memory_offset blob : blobs)
    if (mp::memory::is_object(blob, mp::memory::Kind::bytes)) mp::memory::try_release(blob);
  return 0;
}
