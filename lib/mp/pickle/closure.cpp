#include "mp/pickle/closure.hpp"

#include <cstdlib>
#include <string>
#include <vector>

#include "mp/errors.hpp"
#include "mp/memory/ref.hpp"
#include "mp/os/mapping.hpp"
#include "mp/os/module.hpp"
#include "mp/os/symbol.hpp"

namespace mp::pickle::detail {
namespace {

// A closure in a message: size, relocations, bytes. A relocated word is written as 0.
enum class Target : std::uint8_t { itself, module };

struct Relocation {
  std::size_t word;  // byte offset of the word
  Target target;
  os::ModuleAddress to;  // `itself`: only the offset
};

constexpr std::uintptr_t kLowest = 65536;  // vm.mmap_min_addr: nothing is mapped below
#if defined(__x86_64__)
constexpr std::uintptr_t kHighest = std::uintptr_t{1} << 47;
#else
constexpr std::uintptr_t kHighest = std::uintptr_t{1} << 48;
#endif

// Whose memory this is, that only this process has; empty if nothing can be read there, so that it is no pointer.
std::string owner_of(const void* p, bool& may_be_long_value) {
  const auto mapping = os::mapping_of(p);
  if (mapping && !mapping->readable) return {};
  if (os::on_this_stack(p) || (mapping && mapping->name == "[stack]"))
    return mapping && mapping->name == "[stack]" ? "the stack of main" : "the stack of this thread";
  if (os::locate(p)) {
    const std::string name = os::symbol_at(p);
    return name.empty() ? "a global variable" : "the global `" + name + '`';
  }
  if (mapping && !mapping->name.empty() && mapping->name.front() == '/') return "the mapped file " + mapping->name;
  may_be_long_value = true;
  return "the heap";
}

void check_word(std::uintptr_t word, std::size_t at, std::uintptr_t scratch, std::size_t size,
                std::vector<Relocation>& relocations, bool& points_into_arena) {
  if (word < kLowest || word >= kHighest) return;
  if (word - scratch <= size) {
    relocations.push_back({at, Target::itself, {0, word - scratch}});
    return;
  }
  const auto* p = reinterpret_cast<const void*>(word);
  if (memory::contains(p)) {
    points_into_arena = true;
    return;
  }
  if (!os::is_mapped(p)) return;
  if (const auto found = os::locate(p); found && found->segment != os::Segment::variable) {
    relocations.push_back({at, Target::module, found->address});
    return;
  }
  bool may_be_long_value = false;
  const std::string owner = owner_of(p, may_be_long_value);
  if (owner.empty()) return;
  throw PicklingError("cannot send this callable: capture at byte " + std::to_string(at) + " points to " + owner +
                      (may_be_long_value ? " (a pointer, or a container that keeps its elements there)" : "") +
                      ", which only this process has; capture by value, or pass it as an argument or with mp::partial");
}

// A copy of the callable that lives while its bytes are looked at.
class Copy {
 public:
  Copy(const void* f, const ClosureType& type) : type_(type) {
    const std::size_t align = type.align < sizeof(std::uintptr_t) ? sizeof(std::uintptr_t) : type.align;
    const std::size_t room = (type.size + align - 1) / align * align;
    if (room <= sizeof small_ && align <= alignof(std::max_align_t)) {
      at_ = small_;
    } else {
      large_ = at_ = static_cast<std::byte*>(std::aligned_alloc(align, room));
      if (at_ == nullptr) throw std::bad_alloc();
    }
    // What padding a copy leaves alone is zero then, not a pointer left over from something else.
    std::memset(at_, 0, room);
    try {
      type.copy(f, at_);
    } catch (...) {
      std::free(large_);
      throw;
    }
  }
  ~Copy() {
    type_.destroy(at_);
    std::free(large_);
  }
  Copy(const Copy&) = delete;
  Copy& operator=(const Copy&) = delete;
  const std::byte* bytes() const noexcept { return at_; }

 private:
  const ClosureType& type_;
  std::byte* at_;
  std::byte* large_ = nullptr;
  alignas(std::max_align_t) std::byte small_[512];
};

}  // namespace

void dump_closure(Writer& w, const void* f, const ClosureType& type) {
  memory::Recorder recorder;
  const Copy copy(f, type);
  std::vector<Relocation> relocations;
  bool points_into_arena = false;
  const auto scratch = reinterpret_cast<std::uintptr_t>(copy.bytes());
  for (std::size_t at = 0; at + sizeof(std::uintptr_t) <= type.size; at += sizeof(std::uintptr_t)) {
    std::uintptr_t word;
    std::memcpy(&word, copy.bytes() + at, sizeof word);
    check_word(word, at, scratch, type.size, relocations, points_into_arena);
  }
  if (points_into_arena && !memory::at_agreed_address())
    throw PicklingError(
        "cannot send this callable: it captured a pointer into shared memory, which this process could not map where "
        "the "
        "others have it; capture the mp::Value, mp::Array or other handle instead");
  for (memory::Offset object : recorder.objects()) w.carry(object);
  w.put_size(type.size);
  w.put(static_cast<std::uint8_t>(points_into_arena));
  w.put_size(relocations.size());
  for (const Relocation& r : relocations) {
    w.put_size(r.word);
    w.put(static_cast<std::uint8_t>(r.target));
    w.put_size(r.to.offset);
    if (r.target == Target::module) w.put(r.to.module);
  }
  const std::size_t begin = w.size();
  w.write(copy.bytes(), type.size);
  // No address of this process goes into the message.
  const std::uintptr_t zero = 0;
  for (const Relocation& r : relocations) w.patch(begin + r.word, &zero, sizeof zero);
}

void load_closure(Reader& r, void* to, std::size_t size) {
  constexpr const char* kWhat = "callable";
  if (r.get_varint(kWhat) != size) malformed(kWhat, "it has another size than the callable expected here");
  if (r.get<std::uint8_t>(kWhat) != 0 && !memory::at_agreed_address())
    malformed(kWhat,
              "it captured a pointer into shared memory, which this process could not map where the others have it; "
              "capture the "
              "mp::Value, mp::Array or other handle instead");
  const std::size_t count = r.get_size(3, kWhat);
  if (count > size / sizeof(std::uintptr_t)) malformed(kWhat, "more words of it point somewhere than it has");
  std::vector<Relocation> relocations(count);
  for (Relocation& one : relocations) {
    one.word = r.get_varint(kWhat);
    const auto target = r.get<std::uint8_t>(kWhat);
    one.to.offset = r.get_varint(kWhat);
    if (target > static_cast<std::uint8_t>(Target::module)) malformed(kWhat, "a word of it points to nothing known");
    one.target = static_cast<Target>(target);
    if (one.target == Target::module) one.to.module = r.get<std::uint64_t>(kWhat);
    if (size < sizeof(std::uintptr_t) || one.word > size - sizeof(std::uintptr_t) ||
        (one.target == Target::itself && one.to.offset > size))
      malformed(kWhat, "a word of it lies beyond its end");
  }
  r.read(to, size, kWhat);
  for (const Relocation& one : relocations) {
    const void* address;
    if (one.target == Target::itself) {
      address = static_cast<std::byte*>(to) + one.to.offset;
    } else {
      os::Segment segment;
      address = os::resolve(one.to, segment);
      if (address == nullptr || segment == os::Segment::variable)
        malformed(kWhat,
                  "it captured a pointer into a program or library that is not loaded here, or is another build");
    }
    std::memcpy(static_cast<std::byte*>(to) + one.word, &address, sizeof address);
  }
}

}  // namespace mp::pickle::detail
