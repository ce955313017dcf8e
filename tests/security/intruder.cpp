// Somebody who is no member of a family and tries to reach into it. Executed by outsider.cpp; knows nothing of the library.
//
// usage: intruder look|harm ARENA_FD ARENA_ADDRESS DEVICE INODE SHM_NAME PID...
//   look: tries what changes nothing if it succeeds; harm: the rest, too.
// Says what it succeeded in, one line each, and at last how many attempts it has made. Exit status: 0 if none succeeded, 1 otherwise.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

int attempts = 0, successes = 0;

void tried(const std::string& what, bool succeeded) {
  ++attempts;
  if (!succeeded) return;
  ++successes;
  std::printf("succeeded: %s\n", what.c_str());
}

bool opens(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK);
  if (fd >= 0) ::close(fd);
  return fd >= 0;
}

bool lists(const std::string& path) {
  DIR* directory = ::opendir(path.c_str());
  if (directory != nullptr) ::closedir(directory);
  return directory != nullptr;
}

bool reads_memory(pid_t pid, std::uintptr_t address) {
  char byte;
  iovec here{&byte, 1}, there{reinterpret_cast<void*>(address), 1};
  return ::process_vm_readv(pid, &here, 1, &there, 1, 0) == 1;
}

bool traces(pid_t pid) {
  if (::ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) != 0) return false;
  ::ptrace(PTRACE_DETACH, pid, nullptr, nullptr);
  return true;
}

bool takes_descriptor(pid_t pid, int fd) {
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (pidfd < 0) return false;
  const int taken = static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, fd, 0));
  if (taken >= 0) ::close(taken);
  ::close(pidfd);
  return taken >= 0;
}

// Whether any name in /dev/shm leads to that file.
bool finds(dev_t device, ino_t inode) {
  DIR* directory = ::opendir("/dev/shm");
  bool found = false;
  while (const dirent* entry = directory != nullptr ? ::readdir(directory) : nullptr) {
    struct stat info;
    if (::fstatat(::dirfd(directory), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0)
      found |= info.st_dev == device && info.st_ino == inode;
  }
  if (directory != nullptr) ::closedir(directory);
  return found;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 8) return 2;
  const bool harm = std::string(argv[1]) == "harm";
  const int arena = std::atoi(argv[2]);
  const auto address = static_cast<std::uintptr_t>(std::strtoull(argv[3], nullptr, 10));
  tried("find the arena in /dev/shm", finds(std::strtoull(argv[4], nullptr, 10), std::strtoull(argv[5], nullptr, 10)));
  const std::string shm = std::string("/dev/shm/") + argv[6];
  tried("open named shared memory to read", opens(shm, O_RDONLY));
  tried("open named shared memory to write", opens(shm, O_RDWR));
  if (harm) tried("unlink named shared memory", ::unlink(shm.c_str()) == 0);
  for (int i = 7; i < argc; ++i) {
    const pid_t pid = std::atoi(argv[i]);
    const std::string proc = std::string("/proc/") + argv[i] + '/', of = std::string(" of ") + argv[i];
    tried("list the descriptors" + of, lists(proc + "fd"));
    tried("open the arena by its descriptor" + of, opens(proc + "fd/" + argv[2], O_RDWR));
    tried("open the memory" + of, opens(proc + "mem", O_RDWR));
    tried("read the memory map" + of, opens(proc + "maps", O_RDONLY));
    tried("list mapped files" + of, lists(proc + "map_files"));
    tried("read the environment" + of, opens(proc + "environ", O_RDONLY));
    tried("read memory" + of, reads_memory(pid, address));
    tried("trace" + of, traces(pid));
    tried("take the arena's descriptor" + of, takes_descriptor(pid, arena));
    tried("signal" + of, ::kill(pid, 0) == 0);
    rlimit limit;
    tried("ask for limits" + of, ::syscall(SYS_prlimit64, pid, RLIMIT_CPU, nullptr, &limit) == 0);
    if (harm) tried("terminate" + of, ::kill(pid, SIGTERM) == 0);
  }
  std::printf("%d attempts\n", attempts);
  return successes == 0 ? 0 : 1;
}
