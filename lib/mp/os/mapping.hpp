// What the address space of this process holds where, as the kernel tells it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace mp::os {

struct Mapping {
  std::uintptr_t begin, end;
  bool readable;
  std::string name;  // a path, "[stack]", "[heap]", or empty: anonymous memory
};

// Whether any mapping holds `p`, also one that may not be touched. One system call (mincore(2)), some 100 ns; no allocation.
bool is_mapped(const void* p) noexcept;

// The mapping that holds `p`, from /proc/self/maps; nothing where there is none or /proc is missing. Tens of microseconds.
std::optional<Mapping> mapping_of(const void* p);

// Whether `p` lies in the calling thread's own stack.
bool on_this_stack(const void* p) noexcept;

// A hint that [p, p + size) will be written throughout and may lie in huge pages, where the system leaves that choice to programs
// (transparent_hugepage=madvise): three times fewer nanoseconds a byte for fresh memory.
void prefer_huge_pages(void* p, std::size_t size) noexcept;

// Maps [p, p + size), which is committed, for writing at once: each 4 KiB written first would cost a page fault of its own, a sixth of what
// fresh memory costs. Nothing happens where the kernel does not know how (before Linux 5.14) or refuses.
void map_to_write(void* p, std::size_t size) noexcept;

}  // namespace mp::os
