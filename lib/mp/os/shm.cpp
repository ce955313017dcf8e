#include "mp/os/shm.hpp"

#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <utility>

#include "mp/errors.hpp"
#include "mp/os/call.hpp"
#include "mp/os/limit.hpp"

namespace mp::os {
namespace {

// A /dev/shm smaller than this is a container's default, not a choice.
constexpr unsigned long long kSmallShm = 1ull << 30;

bool ask_file_system(struct statvfs& fs) noexcept {
  return call_again(Call::statvfs, [&] { return ::statvfs("/dev/shm", &fs); }) == 0;
}

// A file of the POSIX shared memory file system that never had a name (O_TMPFILE): shm_open with the unlink already
// done, so that no kill can come between the two.
UniqueFd open_nameless_shm() noexcept {
  struct statvfs fs;
  if (!ask_file_system(fs) || static_cast<unsigned long long>(fs.f_blocks) * fs.f_frsize < kSmallShm) return {};
  return UniqueFd(
      call_again(Call::shm_open, [] { return ::open("/dev/shm", O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600); }));
}

}  // namespace

UniqueFd create_shared_memory(std::size_t size) {
  UniqueFd fd = open_nameless_shm();
  if (!fd) fd = UniqueFd(call_again(Call::memfd_create, [] { return ::memfd_create("mp", MFD_CLOEXEC); }));
  if (!fd)
    throw refused(errno, "memfd_create",
                  "for the family's shared memory, /dev/shm being missing, closed or smaller than 1 GiB");
  // A memfd is made for everybody who can name it.
  if (call_again(Call::fchmod, [&] { return ::fchmod(fd.get(), 0600); }) != 0)
    throw OSError(errno, "fchmod", "the family's shared memory");
  if (call_again(Call::ftruncate, [&] { return ::ftruncate(fd.get(), static_cast<off_t>(size)); }) != 0)
    throw OSError(errno, "ftruncate", "shared memory to " + std::to_string(size) + " bytes");
  return fd;
}

int commit(int fd, std::size_t begin, std::size_t size) noexcept {
  auto result = call_again(Call::fallocate,
                           [&] { return ::fallocate(fd, 0, static_cast<off_t>(begin), static_cast<off_t>(size)); });
  return result == 0 ? 0 : errno;
}

void decommit(int fd, std::size_t begin, std::size_t size) noexcept {
  call_again(Call::fallocate, [&] {
    return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(begin),
                       static_cast<off_t>(size));
  });
}

UniqueFd create_named_shared_memory(const std::string& name, std::size_t size) {
  const std::string path = "/dev/shm/" + name;
  auto fail = [](int error) {
    errno = error;
    return UniqueFd();
  };
  if (call_again(Call::access, [&] { return ::access(path.c_str(), F_OK); }) == 0) return fail(EEXIST);
  UniqueFd fd(call_again(Call::shm_open, [] { return ::open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600); }));
  if (fd) {
    if (int error = commit(fd.get(), 0, size)) return fail(error);
    const std::string self = "/proc/self/fd/" + std::to_string(fd.get());
    auto link = [&] { return ::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW); };
    if (call_again(Call::link, link) == 0) {
      // Opened by its name, so that /proc/PID/maps shows it, unless somebody was quick to unlink it.
      UniqueFd named = open_named_shared_memory(name);
      struct stat ours, theirs;
      auto ask = [](const UniqueFd& file, struct stat& info) {
        return call_again(Call::fstat, [&] { return ::fstat(file.get(), &info); }) == 0;
      };
      bool same = named && ask(fd, ours) && ask(named, theirs) && ours.st_ino == theirs.st_ino;
      return same ? std::move(named) : std::move(fd);
    }
    if (errno == EEXIST) return fail(EEXIST);
  }
  // No O_TMPFILE or no /proc: the name comes first.
  fd = UniqueFd(
      call_again(Call::shm_open, [&] { return ::shm_open(("/" + name).c_str(), O_CREAT | O_EXCL | O_RDWR, 0600); }));
  if (!fd) return {};
  if (int error = commit(fd.get(), 0, size)) {
    unlink_named_shared_memory(name);
    return fail(error);
  }
  return fd;
}

UniqueFd open_named_shared_memory(const std::string& name) {
  return UniqueFd(call_again(Call::shm_open, [&] { return ::shm_open(("/" + name).c_str(), O_RDWR, 0600); }));
}

int unlink_named_shared_memory(const std::string& name) {
  return call_again(Call::shm_unlink, [&] { return ::shm_unlink(("/" + name).c_str()); }) == 0 ? 0 : errno;
}

long long size_of(int fd) noexcept {
  struct stat info;
  return call_again(Call::fstat, [&] { return ::fstat(fd, &info); }) == 0 ? info.st_size : -1;
}

bool is_private_file(int fd, std::size_t size) noexcept {
  struct stat info;
  if (call_again(Call::fstat, [&] { return ::fstat(fd, &info); }) != 0) return false;
  return S_ISREG(info.st_mode) && (info.st_mode & 077) == 0 && (info.st_uid == ::geteuid() || info.st_uid == 0) &&
         static_cast<std::size_t>(info.st_size) >= size;
}

bool has_raised_rights() noexcept { return ::getauxval(AT_SECURE) != 0; }

ShmSpace shared_memory_space(int fd) noexcept {
  struct statvfs fs;
  const bool known = fd < 0 ? ask_file_system(fs) : call_again(Call::statvfs, [&] { return ::fstatvfs(fd, &fs); }) == 0;
  if (!known) return {0, 0};
  return {static_cast<std::size_t>(fs.f_blocks - fs.f_bfree) * fs.f_frsize,
          static_cast<std::size_t>(fs.f_blocks) * fs.f_frsize};
}

}  // namespace mp::os
