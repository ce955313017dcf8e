#!/bin/sh
# usage: seam.sh LIB_MP
# Fails if a file of the library makes a system call that does not pass the seam, os/call.hpp: no test could make it fail.
# A call is `::name(`, or `system_call(SYS_name` (os/system_call.hpp); it passes the seam where it stands inside `call(Call::...)` or `call_again(Call::...)`, or in a lambda of the
# same function that is handed to one of these by name.
cd "$1" || exit 1

# Calls of the kernel, under the names of the C library.
calls='accept accept4 access bind brk chdir chmod chown clone close close_range connect creat dup dup2 dup3
  epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd eventfd_read eventfd_write execl execle execlp execv execve execvp
  execvpe faccessat fallocate fchmod fchown fcntl fdatasync flock fork fstat fstatat fstatfs fstatvfs fsync ftruncate futimens getcpu
  getdents64 getgroups getrandom getresuid getrlimit getrusage getsockname getsockopt getxattr inotify_init1 ioctl kill lchown link linkat listen
  lseek lstat madvise memfd_create mincore mkdir mkdirat mkfifo mlock mount mprotect mq_open mremap msgget msync munmap nanosleep
  clock_nanosleep open openat openat2 pause perf_event_open pidfd_getfd pidfd_open pidfd_send_signal pipe pipe2 poll posix_fallocate
  posix_madvise posix_spawn posix_spawnp ppoll prctl pread preadv prlimit process_madvise process_vm_readv process_vm_writev pselect
  pthread_create pthread_kill pthread_sigqueue ptrace pwrite pwritev raise read readlink readlinkat readv recv recvfrom recvmmsg recvmsg rename
  renameat rmdir sched_getaffinity sched_setaffinity sched_setparam sched_setscheduler select semget sem_open send sendfile sendmmsg
  sendmsg sendto setgid setns setpgid setpriority setrlimit setsid setsockopt setuid shmat shmget shm_open shm_unlink
  shutdown sigaction sigaltstack signal signalfd sigprocmask pthread_sigmask sigqueue sigsuspend sigtimedwait sigwait sigwaitinfo
  sleep socket socketpair splice stat statfs statvfs statx symlink syscall system_call system tgkill timerfd_create timerfd_settime timer_create
  timer_settime truncate umask uname unlink unlinkat unshare usleep vfork vmsplice wait wait3 wait4 waitid waitpid write writev'

# NAME|FILE|WHY: what may be called directly, in FILE or (*) everywhere.
exceptions='close|*|the descriptor is gone whatever it returns
munmap|*|fails only for what is not mapped as a whole
nanosleep|*|a nap cut short is followed by another look
usleep|*|as nanosleep
sigaction|*|fails only for a wrong argument
signal|*|as sigaction
sigprocmask|*|fails only for a wrong argument
pthread_sigmask|*|fails only for a wrong argument
sigaltstack|process/crash.cpp|without the stack of its own a stack overflow is told by its signal alone
prctl|process/crash.cpp|whatever it returns, the process ends now
open|process/crash.cpp|in the handler of a crash, where no hook of a test must run
read|process/crash.cpp|likewise
syscall number|os/system_call.hpp|what others are made of, on a processor that is not known here
system_call long|os/system_call.hpp|its declaration
syscall SYS_gettid|*|cannot fail
system_call SYS_getrusage|os/life.cpp|fails only for a wrong argument
syscall SYS_tgkill|process/crash.cpp|the last act of a dying process
system_call SYS_clock_gettime|os/life.cpp|cannot fail: a clock that there is'

find . -name '*.[ch]pp' | sort | xargs awk -v names="$calls" -v listed="$exceptions" '
  function look(file,    text, i, c, depth, top, before, name, rest, line, seam, key, skip) {
    text = whole; line = 1; depth = 0; top = 0; seam = 0
    for (i = 1; i <= length(text); ++i) {
      c = substr(text, i, 1)
      if (c == "\n") ++line
      else if (c == "(") {
        ++depth
        # The opening of call(Call::... or call_again(...): all up to its end passes the seam.
        before = substr(text, i > 40 ? i - 40 : 1, i > 40 ? 40 : i - 1)
        rest = substr(text, i + 1, 60)
        if (!seam && before ~ /(^|[^A-Za-z0-9_])call(_again)?$/ && rest ~ /^[ \n]*(os::|mp::os::)?Call::/) seam = depth
        if (before ~ /(^|[^A-Za-z0-9_>])(::[a-z_0-9]+|(os::)?system_call)$/) {
          match(before, /[a-z_0-9]+$/); name = substr(before, RSTART)
          if (name ~ /^(system_|sys)call$/) { match(rest, /^[A-Za-z0-9_]+/); key = name " " substr(rest, 1, RLENGTH) } else key = name
          if ((name in call) && !seam && !handed(text, i)) {
            skip = ((key, "*") in why) ? key SUBSEP "*" : key SUBSEP file
            if (skip in why) used[skip] = 1
            else { print file ":" line ": ::" key "() does not pass the seam (os/call.hpp)"; bad = 1 }
          }
        }
      } else if (c == ")") { if (seam == depth) seam = 0; --depth }
    }
  }
  # Whether the call at `i` is the body of `auto NAME = [...] { return ::call...` with NAME given to call() or call_again() below.
  function handed(text, i,    head, name) {
    head = substr(text, i > 160 ? i - 160 : 1, i > 160 ? 160 : i - 1)
    if (!match(head, /auto [a-z_]+ = \[[^]]*\][ \n]*\{[ \n]*return ::[a-z_0-9]+$/)) return 0
    name = substr(head, RSTART + 5); sub(/ .*/, "", name)
    return substr(text, i, 400) ~ ("call(_again)?\\((os::)?Call::[a-z_0-9]+, " name "\\)")
  }
  BEGIN {
    count = split(names, list, /[ \n]+/); for (i = 1; i <= count; ++i) call[list[i]] = 1
    count = split(listed, list, "\n")
    for (i = 1; i <= count; ++i) { split(list[i], part, "|"); why[part[1], part[2]] = part[3] }
  }
  FNR == 1 { if (files++) look(current); current = FILENAME; sub(/^\.\//, "", current); whole = "" }
  { gsub(/"([^"\\]|\\.)*"/, "\"\""); gsub(/\047[()"]\047/, ""); sub(/\/\/.*/, ""); whole = whole $0 "\n" }
  END {
    if (files) look(current)
    for (key in why) if (!(key in used)) { split(key, part, SUBSEP); print "no longer needed: exception for " part[1] " in " part[2]; bad = 1 }
    print files + 0 " files looked at"
    exit bad || !files
  }'
