// Anonymous shared memory: an object with no name left, which the kernel frees when its last user is gone.
#pragma once

#include <cstddef>

#include "mp/os/fd.hpp"

namespace mp::os {

// A sparse object of `size` bytes, close-on-exec: POSIX shared memory (0600, in /dev/shm but
// without a name from the first moment on), or a memfd where /dev/shm is missing, refuses, or is too small to be meant for data (containers give
// 64 MiB). Nothing is committed yet. Throws OSError.
UniqueFd create_shared_memory(std::size_t size);

// Commits bytes [begin, begin + size) (fallocate(2)), zeroed where they were not committed: from then on touching
// them cannot fail. 0, or the errno: ENOSPC, ENOMEM, EFBIG, EINTR never.
int commit(int fd, std::size_t begin, std::size_t size) noexcept;

// Gives those bytes back to the kernel; they read as zero when committed again.
void decommit(int fd, std::size_t begin, std::size_t size) noexcept;

}  // namespace mp::os
