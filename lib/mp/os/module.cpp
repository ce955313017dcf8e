#include "mp/os/module.hpp"

#include <elf.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <string_view>
#include <vector>

#include "mp/os/call.hpp"

namespace mp::os {
namespace {

struct Range {
  std::uintptr_t begin, end;  // from the module's start
  Segment segment;
};

struct Module {
  std::uintptr_t start = 0, end = 0;
  std::uint64_t id = 0;
  std::string file;
  std::vector<Range>
      ranges;  // in the order in which they are asked: a relocated read-only part before the variable one that it is in

  const Range* range_of(std::uintptr_t offset) const noexcept {
    for (const Range& r : ranges)
      if (offset >= r.begin && offset < r.end) return &r;
    return nullptr;
  }
};

std::uint64_t hash_bytes(const void* data, std::size_t size, std::uint64_t hash = 0xcbf29ce484222325u) noexcept {
  for (std::size_t i = 0; i < size; ++i) hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3u;
  return hash;
}

// The build-id note among the mapped ones, hashed; 0 if there is none.
std::uint64_t build_id(const dl_phdr_info& info) noexcept {
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = info.dlpi_phdr[i];
    if (part.p_type != PT_NOTE) continue;
    const std::size_t align = part.p_align == 8 ? 8 : 4;
    const char* p = reinterpret_cast<const char*>(info.dlpi_addr + part.p_vaddr);
    const char* const end = p + part.p_memsz;
    while (static_cast<std::size_t>(end - p) >= sizeof(ElfW(Nhdr))) {
      ElfW(Nhdr) note;
      std::memcpy(&note, p, sizeof note);
      const std::size_t name = (note.n_namesz + align - 1) & -align, text = (note.n_descsz + align - 1) & -align;
      const char* words = p + sizeof note;
      if (static_cast<std::size_t>(end - words) < name + text) break;
      if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && std::memcmp(words, "GNU", 4) == 0)
        return hash_bytes(words + name, note.n_descsz);
      p = words + name + text;
    }
  }
  return 0;
}

std::string program_file() {
  char path[4096];
  const ssize_t n = call_again(Call::readlink, [&] { return ::readlink("/proc/self/exe", path, sizeof path); });
  return n > 0 ? std::string(path, static_cast<std::size_t>(n)) : std::string();
}

Module describe(const dl_phdr_info& info, bool program) {
  Module m;
  m.file = program ? program_file() : info.dlpi_name;
  const std::uintptr_t page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  std::uintptr_t begin = UINTPTR_MAX, end = 0;
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = info.dlpi_phdr[i];
    if (part.p_type != PT_LOAD) continue;
    begin = std::min<std::uintptr_t>(begin, part.p_vaddr & -page);
    end = std::max<std::uintptr_t>(end, part.p_vaddr + part.p_memsz);
  }
  if (begin > end) return m;
  m.start = info.dlpi_addr + begin;
  m.end = info.dlpi_addr + end;
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = info.dlpi_phdr[i];
    const Range range{part.p_vaddr - begin, part.p_vaddr - begin + part.p_memsz, Segment::variable};
    if (part.p_type == PT_GNU_RELRO) {
      m.ranges.insert(m.ranges.begin(), {range.begin, range.end, Segment::constant});
    } else if (part.p_type == PT_LOAD) {
      m.ranges.push_back({range.begin, range.end,
                          part.p_flags & PF_X   ? Segment::code
                          : part.p_flags & PF_W ? Segment::variable
                                                : Segment::constant});
    }
  }
  m.id = build_id(info);
  if (m.id == 0) {
    struct stat s{};
    const char* file = program ? "/proc/self/exe" : m.file.c_str();
    call_again(Call::stat, [&] { return ::stat(file, &s); });
    m.id = hash_bytes(info.dlpi_phdr, static_cast<std::size_t>(info.dlpi_phnum) * sizeof(ElfW(Phdr)));
    const std::string_view name = std::string_view(m.file).substr(m.file.rfind('/') + 1);
    m.id = hash_bytes(name.data(), name.size(), m.id);
    m.id = hash_bytes(&s.st_size, sizeof s.st_size, m.id);
  }
  if (m.id == 0) m.id = 1;
  return m;
}

// All modules as of one moment. A snapshot is never freed: who found something in it goes on reading, and there are as many as dlopen()s
// were noticed.
struct Snapshot {
  const Snapshot* older = nullptr;  // so that leak checkers see that it is meant
  unsigned long long loads = 0, unloads = 0;
  std::vector<Module> modules;  // the program first
};

std::atomic<const Snapshot*> latest{nullptr};
std::atomic<const Module*> program{nullptr};

Snapshot* take_snapshot() {
  auto* snapshot = new Snapshot;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* argument) {
        auto& s = *static_cast<Snapshot*>(argument);
        s.loads = info->dlpi_adds;
        s.unloads = info->dlpi_subs;
        s.modules.push_back(describe(*info, s.modules.empty()));
        return 0;
      },
      snapshot);
  return snapshot;
}

// The modules of this moment.
const Snapshot& current() {
  struct Counts {
    unsigned long long loads, unloads;
  } now{};
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* argument) {
        *static_cast<Counts*>(argument) = {info->dlpi_adds, info->dlpi_subs};
        return 1;
      },
      &now);
  const Snapshot* s = latest.load(std::memory_order_acquire);
  if (s == nullptr || s->loads != now.loads || s->unloads != now.unloads) {
    Snapshot* fresh = take_snapshot();
    fresh->older = s;
    while (!latest.compare_exchange_weak(fresh->older, fresh, std::memory_order_acq_rel)) {}
    s = fresh;
    const Module* none = nullptr;
    program.compare_exchange_strong(none, &s->modules.front(), std::memory_order_release, std::memory_order_relaxed);
  }
  return *s;
}

const Module& this_program() {
  const Module* p = program.load(std::memory_order_acquire);
  if (p == nullptr) {
    current();
    p = program.load(std::memory_order_acquire);
  }
  return *p;
}

const Module* module_with(std::uint64_t id) {
  const Module& main = this_program();
  if (main.id == id) return &main;
  for (const Module& m : current().modules)
    if (m.id == id) return &m;
  return nullptr;
}

std::optional<Located> locate_in(const Module& m, std::uintptr_t at) {
  if (at < m.start || at >= m.end) return std::nullopt;
  const Range* range = m.range_of(at - m.start);
  if (range == nullptr) return std::nullopt;
  return Located{{m.id, at - m.start}, range->segment};
}

}  // namespace

constinit ProgramCode program_code;

struct ProgramCodeReader {
  static bool read() {
    const Module& m = this_program();
    for (const Range& r : m.ranges) {
      if (r.segment != Segment::code) continue;
      program_code.module_ = m.id;
      program_code.start_ = m.start;
      program_code.begin_ = r.begin;
      program_code.size_ = r.end - r.begin;
      break;
    }
    return true;
  }
};
static const bool program_code_read [[maybe_unused]] = ProgramCodeReader::read();

std::optional<Located> locate(const void* p) {
  const auto at = reinterpret_cast<std::uintptr_t>(p);
  if (auto found = locate_in(this_program(), at)) return found;
  for (const Module& m : current().modules)
    if (auto found = locate_in(m, at)) return found;
  return std::nullopt;
}

const void* resolve(ModuleAddress address, Segment& segment) {
  const Module* m = module_with(address.module);
  const Range* range = m != nullptr ? m->range_of(address.offset) : nullptr;
  if (range == nullptr) return nullptr;
  segment = range->segment;
  return reinterpret_cast<const void*>(m->start + address.offset);
}

std::string module_file(std::uint64_t module) {
  const Module* m = module_with(module);
  return m != nullptr ? m->file : std::string();
}

}  // namespace mp::os
