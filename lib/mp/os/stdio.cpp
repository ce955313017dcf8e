#include "mp/os/stdio.hpp"

#include <cstdio>

#if defined(__GLIBC__)
// Of glibc, from its first version on: the FILE that was opened last, and so on down the chain to the three that are there from the
// beginning, of which standard error is the first.
extern "C" [[gnu::weak]] std::FILE* _IO_list_all;
#endif

namespace mp::os {
namespace {

#if defined(__GLIBC__)
bool may_wait_in(const std::FILE* file) noexcept {
  return file->_IO_write_ptr != file->_IO_write_base ||
         file->_mode > 0;  // > 0: of wide characters, which lie elsewhere
}
#endif

[[gnu::hot]] bool may_wait() noexcept {
#if defined(__GLIBC__)
  return &_IO_list_all == nullptr || __atomic_load_n(&_IO_list_all, __ATOMIC_RELAXED) != stderr ||
         may_wait_in(stdout) || may_wait_in(stderr);
#else
  return true;
#endif
}

}  // namespace

[[gnu::hot]] void flush_files() noexcept {
  if (may_wait()) std::fflush(nullptr);
}

}  // namespace mp::os
