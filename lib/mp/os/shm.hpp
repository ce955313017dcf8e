// Shared memory objects: without a name, freed by the kernel when the last user is gone; and named ones, which stay until
// somebody unlinks them.
#pragma once

#include <cstddef>
#include <string>

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

// A new POSIX shared memory object (0600) of `size` bytes, all committed and zero, under `name` (no slash in it; shm_overview(7)).
// It gets its name when it is complete: nobody sees half of it, and a kill before that leaves nothing. Empty and errno
// otherwise: EEXIST, ENOSPC, ENOMEM, EACCES, ENAMETOOLONG, EMFILE.
UniqueFd create_named_shared_memory(const std::string& name, std::size_t size);

// The object of that name; empty and errno otherwise: ENOENT, EACCES, EMFILE.
UniqueFd open_named_shared_memory(const std::string& name);

// Takes the name away; the object lives on in those who have mapped it. 0 or the errno.
int unlink_named_shared_memory(const std::string& name);

// Bytes of the object, -1 and errno.
long long size_of(int fd) noexcept;

// Whether `fd` is a file of at least `size` bytes that belongs to the user whose rights this process has (or to root), and that nobody else
// may open: what a stranger hands over as a family's memory is not.
bool is_private_file(int fd, std::size_t size) noexcept;

// Whether the program runs with more rights than whoever executed it has (set-user-ID, capabilities).
bool has_raised_rights() noexcept;

struct ShmSpace {
  std::size_t used,
      allowed;  // bytes of a whole file system of shared memory; 0 where unknown or without a limit of its own
};
// Of the one that `fd` lies in, or, without, of that of names.
ShmSpace shared_memory_space(int fd = -1) noexcept;

}  // namespace mp::os
