#include "mp/os/mapping.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>

#include "mp/os/call.hpp"

// Of AddressSanitizer, where it is linked in: its shadow is mapped, but nothing of the program's lies there.
extern "C" [[gnu::weak]] void __asan_get_shadow_mapping(std::size_t* scale, std::size_t* offset);

namespace mp::os {
namespace {

#if defined(MADV_POPULATE_WRITE)
constexpr int kPopulateWrite = MADV_POPULATE_WRITE;
#else
constexpr int kPopulateWrite = 23;  // of the kernel, whatever the C library's headers know
#endif

// The pages that lie wholly in [p, p + size).
void advise(void* p, std::size_t size, int advice) noexcept {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(p), first = (begin + page - 1) & ~(page - 1);
  const std::uintptr_t end = (begin + size) & ~(page - 1);
  if (first < end)
    call_again(Call::madvise, [&] { return ::madvise(reinterpret_cast<void*>(first), end - first, advice); });
}

bool is_shadow(std::uintptr_t at) noexcept {
  if (__asan_get_shadow_mapping == nullptr) return false;
  std::size_t scale = 0, offset = 0;
  __asan_get_shadow_mapping(&scale, &offset);
  return at >= offset && at < offset + (std::uintptr_t{1} << (47 - scale));
}

}  // namespace

bool is_mapped(const void* p) noexcept {
  static const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto at = reinterpret_cast<std::uintptr_t>(p);
  if (is_shadow(at)) return false;
  unsigned char resident;
  return call_again(Call::mincore, [&] { return ::mincore(reinterpret_cast<void*>(at & -page), page, &resident); }) ==
             0 ||
         errno != ENOMEM;
}

std::optional<Mapping> mapping_of(const void* p) {
  const auto at = reinterpret_cast<std::uintptr_t>(p);
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> maps(std::fopen("/proc/self/maps", "re"), std::fclose);
  if (!maps) return std::nullopt;
  char line[5000];
  while (std::fgets(line, sizeof line, maps.get()) != nullptr) {
    unsigned long begin = 0, end = 0;
    char rights[5] = {};
    int name = 0;
    if (std::sscanf(line, "%lx-%lx %4s %*s %*s %*s %n", &begin, &end, rights, &name) < 3 || at < begin || at >= end)
      continue;
    std::string text = name != 0 ? line + name : "";
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return Mapping{begin, end, rights[0] == 'r', std::move(text)};
  }
  return std::nullopt;
}

bool on_this_stack(const void* p) noexcept {
  pthread_attr_t attributes;
  if (::pthread_getattr_np(::pthread_self(), &attributes) != 0) return false;
  void* base = nullptr;
  std::size_t size = 0;
  ::pthread_attr_getstack(&attributes, &base, &size);
  ::pthread_attr_destroy(&attributes);
  return static_cast<std::size_t>(static_cast<const char*>(p) - static_cast<char*>(base)) < size;
}

void prefer_huge_pages(void* p, std::size_t size) noexcept { advise(p, size, MADV_HUGEPAGE); }

void map_to_write(void* p, std::size_t size) noexcept { advise(p, size, kPopulateWrite); }

}  // namespace mp::os
