// Environments that containers and limits make, real ones: each victim (victim.cpp) is put into one before it is executed, in
// namespaces of its own. Those that need root are skipped without, and say so.
#include "runner.hpp"

#include <doctest/doctest.h>

#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

namespace {

using faults::Ended;

constexpr int kMayNot = 77;  // what a victim's preparation returns where the machine does not let it

int may_not(const char* what) {
  std::perror(what);
  return errno == EPERM || errno == EACCES || errno == ENOSYS || errno == EROFS || errno == ENODEV ? kMayNot : 1;
}

// Mounts that nobody else sees.
int own_mounts() {
  if (::unshare(CLONE_NEWNS) != 0) return may_not("unshare(CLONE_NEWNS)");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return may_not("mount / private");
  return 0;
}

// What was said, or that it may not be made here.
struct Seen {
  bool made;
  Ended ended;
  bool worked() const { return ended.code == 0 && !ended.hung && !ended.orphans; }
  bool says(const std::string& text) const { return ended.output.find(text) != std::string::npos; }
};

Seen run(const std::string& program, const std::function<int()>& before) {
  Seen seen{true, faults::run_victim(program, before)};
  if (seen.ended.code == kMayNot) {
    seen.made = false;
    MESSAGE("skipped: ", seen.ended.output);
  }
  CHECK_FALSE(seen.ended.hung);
  CHECK_FALSE(seen.ended.orphans);
  return seen;
}

// All three runs work.
bool works(const std::string& program, const std::function<int()>& before) {
  const Seen seen = run(program, before);
  if (seen.made && !seen.worked()) MESSAGE(program, " ended with ", seen.ended.code, ":\n", seen.ended.output);
  return !seen.made || seen.worked();
}

// It ends in a typed error (victim.cpp: 10 + Outcome::typed) that says so.
bool refused(const std::string& program, const std::string& text, const std::function<int()>& before) {
  const Seen seen = run(program, before);
  const bool right = seen.ended.code == 10 + static_cast<int>(faults::Outcome::typed) && seen.says(text);
  if (seen.made && !right) MESSAGE(program, " ended with ", seen.ended.code, ":\n", seen.ended.output);
  return !seen.made || right;
}

// The fault holds for the first run only (`limit`: see victim.cpp): that works or ends in a typed error with `text`, the others work.
bool outlives(const std::string& program, const std::string& limit, const std::string& text,
              const std::function<int()>& before = {}) {
  const Seen seen = run(program, [&] {
    ::setenv("MP_FAULTS_LIMIT", limit.c_str(), 1);
    return before ? before() : 0;
  });
  const bool right = seen.worked() && (seen.says("run 1: worked") || seen.says(text));
  if (seen.made && !right)
    MESSAGE(program, " under ", limit, " ended with ", seen.ended.code, ":\n", seen.ended.output);
  return !seen.made || right;
}

int small_shm(const char* size) {
  if (int refused = own_mounts()) return refused;
  const std::string options = std::string("mode=1777,size=") + size;
  return ::mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, options.c_str()) == 0 ? 0
                                                                                           : may_not("mount /dev/shm");
}

int no_shm() {
  if (int refused = own_mounts()) return refused;
  if (::mount("tmpfs", "/dev", "tmpfs", 0, "mode=755") != 0) return may_not("mount /dev");
  if (::mknod("/dev/null", S_IFCHR | 0666, ::makedev(1, 3)) != 0) return may_not("mknod /dev/null");
  return 0;
}

int no_proc() {
  if (int refused = own_mounts()) return refused;
  return ::mount("tmpfs", "/proc", "tmpfs", MS_RDONLY, nullptr) == 0 ? 0 : may_not("mount /proc");
}

int read_only_root(bool shm) {
  if (int refused = own_mounts()) return refused;
  if (shm && ::mount("tmpfs", "/dev/shm", "tmpfs", MS_RDONLY, nullptr) != 0) return may_not("mount /dev/shm");
  return ::mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) == 0 ? 0
                                                                                        : may_not("mount / read-only");
}

// Each of `calls` fails with `error`, as a container's seccomp profile has it.
int forbid(std::initializer_list<unsigned> calls, unsigned error) {
  std::vector<sock_filter> program;
  program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  for (unsigned call : calls) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return may_not("PR_SET_NO_NEW_PRIVS");
  return ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0 ? 0 : may_not("PR_SET_SECCOMP");
}

constexpr unsigned kPidfdOpen = 434, kFutexWaitv = 449;  // the same numbers on every architecture

// The victim must be there for another user as well.
int as_nobody() {
  constexpr id_t kUser = 54321;  // nobody's, so that no other process counts
  if (::setgroups(0, nullptr) != 0 || ::setgid(kUser) != 0 || ::setuid(kUser) != 0) return may_not("setuid");
  const std::string file = faults::victim_file();
  return ::access(file.c_str(), X_OK) == 0 ? 0 : may_not(file.c_str());
}

}  // namespace

TEST_CASE("without /dev/shm all works but named shared memory, whose error says so") {
  for (const std::string program :
       {"locks", "queues", "pipes", "arrays", "fork", "spawn", "forkserver", "pool", "replaced"})
    CHECK_MESSAGE(works(program, no_shm), program);
  CHECK(refused("named", "shared memory 'mp_", no_shm));
}

TEST_CASE(
    "a /dev/shm of 1 MiB or 64 MiB does not bound what a family shares, and is told of where names are bound by it") {
  for (const char* size : {"1m", "64m"}) {
    for (const std::string program : {"queues", "arrays", "fork", "spawn", "pool", "named"})
      CHECK_MESSAGE(works(program, [&] { return small_shm(size); }), program, size);
    const std::string allowed = size[0] == '1' ? " used, 1048576 allowed" : " used, 67108864 allowed";
    const Seen full = run("too-large", [&] { return small_shm(size); });
    CHECK((!full.made ||
           (full.worked() && full.says("shared memory is full: 100000000 bytes asked, ") && full.says(allowed))));
  }
}

TEST_CASE("without /proc what needs it says so, and the rest works") {
  for (const std::string program : {"threads", "named", "arrays"}) CHECK_MESSAGE(works(program, no_proc), program);
  for (const std::string program : {"pool", "spawn-pool", "locks", "queues", "pipes", "fork", "spawn", "forkserver"})
    CHECK_MESSAGE(refused(program, "/proc", no_proc), program);
}

TEST_CASE("on a read-only root all works") {
  for (const std::string program :
       {"locks", "queues", "pipes", "arrays", "named", "fork", "spawn", "forkserver", "pool"})
    CHECK_MESSAGE(works(program, [] { return read_only_root(false); }), program);
}

TEST_CASE("on a read-only root and /dev/shm all works but named shared memory, whose error says so") {
  for (const std::string program : {"locks", "queues", "pipes", "arrays", "fork", "spawn", "forkserver", "pool"})
    CHECK_MESSAGE(works(program, [] { return read_only_root(true); }), program);
  CHECK(refused("named", "Read-only file system", [] { return read_only_root(true); }));
}

TEST_CASE("a seccomp filter that forbids membarrier, futex_waitv or memfd_create changes nothing but the speed") {
  for (unsigned error : {EPERM, ENOSYS})
    for (const std::string program : {"locks", "queues", "pipes", "pool", "nested"})
      CHECK_MESSAGE(works(program, [&] { return forbid({SYS_membarrier, kFutexWaitv, SYS_memfd_create}, error); }),
                    program, error);
}

TEST_CASE("without memfd_create and without a /dev/shm of use there is no shared memory, and the error names both") {
  for (const std::string program : {"arrays", "pool"})
    CHECK(refused(program, "memfd_create for the family's shared memory, /dev/shm being missing", [] {
      if (int refused = small_shm("1m")) return refused;
      return forbid({SYS_memfd_create}, EPERM);
    }));
}

TEST_CASE("a seccomp filter that forbids pidfd_open is named by what needs it") {
  for (unsigned error : {EPERM, ENOSYS}) {
    for (const std::string program : {"fork", "spawn", "forkserver", "pool", "spawn-pool", "nested"})
      CHECK_MESSAGE(refused(program, "pidfd_open of process", [&] { return forbid({kPidfdOpen}, error); }), program,
                    error);
    for (const std::string program : {"threads", "named"})
      CHECK_MESSAGE(works(program, [&] { return forbid({kPidfdOpen}, error); }), program, error);
  }
}

TEST_CASE("RLIMIT_NOFILE: the error says how many descriptors are allowed, and with more it works") {
  for (int most = 3; most <= 12; ++most)
    for (const std::string program : {"pipes", "fork", "spawn", "forkserver", "pool"})
      CHECK_MESSAGE(outlives(program, "nofile=" + std::to_string(most),
                             "Too many open files (RLIMIT_NOFILE, the descriptors of a process, is " +
                                 std::to_string(most) + ";"),
                    program, most);
}

TEST_CASE("RLIMIT_NPROC: the error says how many processes are allowed, and with more it works") {
  for (int most = 1; most <= 6; ++most)
    for (const std::string program : {"fork", "spawn", "forkserver", "pool", "replaced", "threads"})
      CHECK_MESSAGE(
          outlives(program, "nproc=" + std::to_string(most),
                   "Resource temporarily unavailable (RLIMIT_NPROC, the processes and threads of a user, is " +
                       std::to_string(most) + ";",
                   as_nobody),
          program, most);
}

TEST_CASE(
    "RLIMIT_AS: the family takes less address space, or the error says how much is allowed, and with more it works") {
  for (int mebibytes : {16, 48, 200, 1000})
    for (const std::string program : {"arrays", "fork", "pool", "threads"})
      CHECK_MESSAGE(
          outlives(program, "as=" + std::to_string(mebibytes), "RLIMIT_AS, the address space of a process, is "),
          program, mebibytes);
}

TEST_CASE("a worker that the OOM killer takes is replaced") {
  const std::string v1 = "/sys/fs/cgroup/memory", v2 = "/sys/fs/cgroup";
  const bool is_v1 = ::access((v1 + "/memory.limit_in_bytes").c_str(), F_OK) == 0;
  const std::string group = (is_v1 ? v1 : v2) + "/mp_faults_" + std::to_string(::getpid());
  const std::string limit = group + (is_v1 ? "/memory.limit_in_bytes" : "/memory.max");
  if (::mkdir(group.c_str(), 0755) != 0 || ::access(limit.c_str(), W_OK) != 0) {
    MESSAGE("skipped: no cgroup with a limit of memory can be made at ", group, ": ", std::strerror(errno));
    ::rmdir(group.c_str());
    return;
  }
  std::ofstream(limit) << (192ll << 20) << std::endl;
  // Swap would only put it off.
  std::ofstream(group + (is_v1 ? "/memory.memsw.limit_in_bytes" : "/memory.swap.max"))
      << (is_v1 ? 192ll << 20 : 0) << std::endl;
  const Seen seen = run("eater", [&] {
    std::ofstream procs(group + "/cgroup.procs");
    procs << ::getpid() << std::endl;
    return procs ? 0 : may_not("cgroup.procs");
  });
  CHECK_MESSAGE((!seen.made || seen.worked()), seen.ended.code, seen.ended.output);
  CHECK(::rmdir(group.c_str()) == 0);
}
