// What the fuzz targets share: how an input is read, offsets that a hostile peer might write, and seeds.
//
// A target is one file that defines LLVMFuzzerTestOneInput and seeds(). libFuzzer drives it (tools/fuzz), or replay.cpp does with the
// inputs that are in the tree. Whatever the bytes are, a reader may do two things: read them, or throw UnpicklingError. Anything else
// that leaves a target (another exception, a crash, a hang, too much memory) is a finding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mp/errors.hpp"
#include "mp/memory/arena.hpp"
#include "mp/memory/ref.hpp"
#include "mp/pickle/bytes.hpp"
#include "mp/pickle/code.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace fuzz {

using memory_offset = mp::memory::Offset;
using Bytes = std::span<const std::byte>;

// Inputs are to mean the same in every build, but functions travel as the program's build-id and an offset in it. In an input stands
// this word for the build-id, and the next for the offset of the target's function.
inline constexpr std::uint64_t kProgramWord = 0x6d617267'6f7270ff, kFunctionWord = 0x6e6f6974'636e75ff;

// The functions that an input may name; the first is the one that kFunctionWord stands for.
template <class... F>
std::vector<mp::pickle::CodeRef> functions(F*... f) {
  return {mp::pickle::code_ref(reinterpret_cast<const void*>(f))...};
}

inline void replace(std::span<std::byte> bytes, std::uint64_t from, std::uint64_t to) {
  for (std::size_t i = 0; i + sizeof from <= bytes.size(); ++i) {
    if (std::memcmp(bytes.data() + i, &from, sizeof from) != 0) continue;
    std::memcpy(bytes.data() + i, &to, sizeof to);
    i += sizeof from - 1;
  }
}

// An input as a sequence of decisions and of bytes. What is beyond its end reads as zero.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size, const mp::pickle::CodeRef& function = {})
      : bytes_(std::make_unique<std::byte[]>(size)),  // of exactly that size, so that a byte too far is found
        left_(bytes_.get(), size) {
    if (size != 0) std::memcpy(bytes_.get(), data, size);
    if (function.module == 0) return;
    replace(left_, kProgramWord, function.module);
    replace(left_, kFunctionWord, function.offset);
  }
  template <class T>
  T get() {
    T value{};
    const Bytes from = take(sizeof value);
    if (!from.empty()) std::memcpy(&value, from.data(), from.size());
    return value;
  }
  unsigned below(unsigned n) { return get<std::uint8_t>() % n; }
  Bytes take(std::size_t size) {
    const Bytes taken = left_.first(size < left_.size() ? size : left_.size());
    left_ = left_.subspan(taken.size());
    return taken;
  }
  Bytes rest() { return take(left_.size()); }
  bool empty() const { return left_.empty(); }

 private:
  std::unique_ptr<std::byte[]> bytes_;
  std::span<std::byte> left_;
};

// True if `read` refused what it was given.
template <class Read>
bool refused(Read read) {
  try {
    read();
    return false;
  } catch (const mp::UnpicklingError&) {
    return true;
  }
}

// Blocks and an object that an input may name, and so have freed, released or written to: nothing of the target's own lies there.
class Prey {
 public:
  Prey() {
    blocks_[0] = mp::memory::allocate(kSmall);
    blocks_[1] = mp::memory::allocate(kLarge, 65536);
    for (memory_offset block : blocks_) std::memset(mp::memory::at<void>(block), 0, kSmall);
  }
  ~Prey() {
    for (memory_offset block : blocks_) mp::memory::try_deallocate(block);
  }
  Prey(const Prey&) = delete;
  Prey& operator=(const Prey&) = delete;

  static constexpr std::size_t kSmall = 20'000, kLarge = 200'000;  // of sizes that nobody else uses
  memory_offset small() const { return blocks_[0]; }
  memory_offset large() const { return blocks_[1]; }

  // `wanted` if it names nothing, or something of these; else something of these.
  memory_offset mine(memory_offset wanted) const {
    if (mp::memory::block_size(wanted) == 0 || owns(wanted)) return wanted;
    return blocks_[wanted % 2] + wanted % kSmall;
  }
  // Makes each word that might be read as an offset there harmless to others.
  void tame(memory_offset block, std::size_t size) const {
    auto* words = mp::memory::at<memory_offset>(block);
    for (std::size_t i = 0; i < size / sizeof(memory_offset) + 1; ++i) words[i] = mine(words[i]);
  }
  bool owns(memory_offset offset) const {
    return (offset >= small() && offset < small() + kSmall) || (offset >= large() && offset < large() + kLarge);
  }

  // An offset of the input's choice: a good one, one a little beside it, or anything.
  memory_offset choose(Input& in, memory_offset good) const {
    const unsigned how = in.below(8);
    switch (how) {
      case 0: return good;
      case 1: {
        const auto by = static_cast<memory_offset>(std::int64_t{in.get<std::int8_t>()});
        // Not what lies beside it: that is somebody else's.
        return mp::memory::room_at(good + by) == mp::memory::room_at(good) - by ? good + by : good;
      }
      case 2: return mine(small() + in.get<std::uint16_t>() % (2 * kSmall));
      case 3: return mine(large() + in.get<std::uint32_t>() % (2 * kLarge));
      case 4: return 0;
      case 5: return mp::memory::detail::end_of_blocks - in.get<std::uint16_t>();
      case 6: return in.get<std::uint16_t>();  // the arena's own tables
      default: return mine(in.get<std::uint64_t>());
    }
  }

 private:
  memory_offset blocks_[2];
};

// What a target begins with, under a name that says what it is.
struct Seed {
  std::string name;
  std::string bytes;
};
std::vector<Seed> seeds();

// The bytes of a message as a seed, the same in every build.
inline std::string portable(Bytes bytes, const mp::pickle::CodeRef& function = {}) {
  std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (function.module != 0) {
    replace(std::as_writable_bytes(std::span(text)), function.module, kProgramWord);
    replace(std::as_writable_bytes(std::span(text)), function.offset, kFunctionWord);
  }
  return text;
}
template <class... T>
std::string raw(const T&... part) {
  std::string text;
  (text.append(reinterpret_cast<const char*>(&part), sizeof part), ...);
  return text;
}

}  // namespace fuzz
