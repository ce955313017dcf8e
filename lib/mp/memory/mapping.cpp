// Where the arena lies in a process's address space, and how one is made. What is mapped is never unmapped.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "mp/errors.hpp"
#include "mp/memory/layout.hpp"
#include "mp/os/call.hpp"
#include "mp/os/limit.hpp"
#include "mp/os/shm.hpp"

namespace mp::memory::detail {
namespace {

constexpr std::uint64_t kLayout = sizeof(Arena) ^ sizeof(Member) << 16 ^ kMaxMembers << 32 ^ kBitmapWords << 48 ^ kPage;

#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitized = true;
#elif defined(__has_feature)
constexpr bool kThreadSanitized = __has_feature(thread_sanitizer);
#else
constexpr bool kThreadSanitized = false;
#endif

// Where the arena is tried first: far from heap, stack and libraries, and below them, so that a spawned process finds it free as well. The
// thread sanitizer leaves a program no more than the top of the address space.
constexpr std::uint64_t kFirst = kThreadSanitized ? 0x7e90'0000'0000 : 0x2000'0000'0000;
constexpr std::uint64_t kStep = kThreadSanitized ? 0x10'0000'0000 : 0x100'0000'0000;

// MAP_FAILED unless it is there: what knows no MAP_FIXED_NOREPLACE (kernels before 4.17, ThreadSanitizer) maps elsewhere.
void* map_at(std::uint64_t where, std::uint64_t capacity, int fd) noexcept {
  void* wanted = reinterpret_cast<void*>(where);
  auto got = os::call_again(os::Call::mmap, [&] {
    return reinterpret_cast<std::intptr_t>(
        ::mmap(wanted, capacity, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED_NOREPLACE, fd, 0));
  });
  if (got == -1 || reinterpret_cast<void*>(got) == wanted) return reinterpret_cast<void*>(got);
  ::munmap(reinterpret_cast<void*>(got), capacity);
  return MAP_FAILED;
}

void* map_anywhere(std::uint64_t capacity, int fd) noexcept {
  return reinterpret_cast<void*>(os::call_again(os::Call::mmap, [&] {
    return reinterpret_cast<std::intptr_t>(
        ::mmap(nullptr, capacity, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0));
  }));
}

// See arena.hpp.
std::uint64_t most_idle_pages() noexcept {
  constexpr std::uint64_t kMost = (256u << 20) / kPage, kShare = 64;
  const auto pages = static_cast<std::uint64_t>(std::max(0L, ::sysconf(_SC_PHYS_PAGES)));
  const auto page_size = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return std::min(kMost, pages * page_size / kPage / kShare);
}

}  // namespace

void map_new_arena() {
  // As much as the address space takes: sparse, so it costs nothing until committed. RLIMIT_AS and small address
  // spaces get less.
  std::uint64_t size = 256ull << 30;
  os::UniqueFd fd = os::create_shared_memory(size);
  if (int error = os::commit(fd.get(), 0, kMembers)) {
    if (error != ENOSPC && error != ENOMEM) throw OSError(error, "fallocate", "the family's shared memory");
    const os::ShmSpace all = os::shared_memory_space(fd.get());
    throw SharedMemoryFull(kMembers, all.used, all.allowed != 0 ? all.allowed : size);
  }
  void* where = MAP_FAILED;
  for (;;) {
    for (int i = 0; i < 16 && where == MAP_FAILED; ++i) where = map_at(kFirst + kStep * i, size, fd.get());
    if (where == MAP_FAILED) where = map_anywhere(size, fd.get());
    if (where != MAP_FAILED || size <= 64ull << 20) break;
    size /= 2;
  }
  if (where == MAP_FAILED) throw os::refused(errno, "mmap", "the family's shared memory");
  detail::base = static_cast<std::byte*>(where);
  detail::capacity = size;
  arena_descriptor = fd.release();

  auto round = [](std::uint64_t n) { return (n + kPage - 1) / kPage * kPage; };
  const std::uint64_t first_page = round(kMembers + sizeof(Member) * kMaxMembers);
  // As many as leave room behind them for what is said of them, whose two tables are rounded up to pages.
  const std::uint64_t pages = (size - first_page - 2 * kPage) / (kPage + kBitmapWords * 8 + 8);
  const std::uint64_t words = first_page + pages * kPage, bitmaps = words + round(pages * 8);
  Arena& a = *new (detail::base) Arena{};
  a.layout = kLayout;
  a.agreed_base = reinterpret_cast<std::uint64_t>(detail::base);
  a.capacity = size;
  a.pages = pages;
  a.words = words;
  a.bitmaps = bitmaps;
  a.first_page = first_page;
  a.most_idle_pages = most_idle_pages();
  a.committed_bytes.store(kMembers, std::memory_order_relaxed);
  a.magic = kMagic;
  detail::first_block = first_page;
  detail::end_of_blocks = words;
}

void unmap_arena() noexcept {
  ::munmap(detail::base, detail::capacity);
  ::close(std::exchange(arena_descriptor, -1));
  detail::base = nullptr;
  detail::capacity = detail::first_block = detail::end_of_blocks = 0;
}

void map_inherited_arena(int fd) {
  // Who executes this program with descriptors and arguments of his own making decides what the child runs: he must be this user.
  if (os::has_raised_rights())
    throw Error("a program that runs with more rights than its caller has cannot be a spawned child");
  if (!os::is_private_file(fd, kMembers))
    throw Error("the inherited descriptor is not shared memory that is this user's alone");
  auto* head = reinterpret_cast<Arena*>(os::call_again(os::Call::mmap, [fd] {
    return reinterpret_cast<std::intptr_t>(::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0));
  }));
  if (head == MAP_FAILED) throw os::refused(errno, "mmap", "the inherited shared memory");
  std::uint64_t size = head->capacity, agreed = head->agreed_base, first = head->first_page, end = head->words;
  bool ours =
      head->magic == kMagic && head->layout == kLayout && first < end && end < size && os::is_private_file(fd, size);
  ::munmap(head, 4096);
  if (!ours) throw Error("the inherited descriptor is not the shared memory of this version of mp");
  void* where = map_at(agreed, size, fd);
  if (where == MAP_FAILED) where = map_anywhere(size, fd);
  if (where == MAP_FAILED) throw os::refused(errno, "mmap", "the family's shared memory");
  detail::base = static_cast<std::byte*>(where);
  detail::capacity = size;
  detail::first_block = first;
  detail::end_of_blocks = end;
  arena_descriptor = fd;
}

}  // namespace mp::memory::detail
