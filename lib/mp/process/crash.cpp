// What a dying process says of its crash: signal, code, address and what lies there, return addresses; written straight into its record
// by a handler on a stack of its own. Symbols are looked up by whoever reads it, in peace. A thread that the program made has no such
// stack: when it overflows, the kernel ends the process without a handler and only the signal is known.
#include <cxxabi.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include <bit>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <typeinfo>
#include <utility>

#include "mp/memory/arena.hpp"
#include "mp/os/life.hpp"
#include "mp/process/child.hpp"

namespace mp::process {
namespace {

// One bit a signal: an array would be a page of constants for each fork child to fault in.
constexpr std::uint64_t kSignals = 1ull << SIGSEGV | 1ull << SIGBUS | 1ull << SIGFPE | 1ull << SIGILL |
                                   1ull << SIGABRT | 1ull << SIGSYS | 1ull << SIGTRAP;

std::atomic<Record*> crashing{nullptr};  // whose crash is being described
alignas(64) char alternate_stack[64 * 1024];

struct Trace {
  std::uint64_t addresses[Crash::kMaxFrames + 8];
  std::size_t count;
};

_Unwind_Reason_Code note_frame(_Unwind_Context* context, void* argument) {
  Trace& trace = *static_cast<Trace*>(argument);
  if (trace.count == std::size(trace.addresses)) return _URC_END_OF_STACK;
  trace.addresses[trace.count++] = _Unwind_GetIP(context);
  return _URC_NO_REASON;
}

std::uint64_t interrupted_at(const void* context) noexcept {
  const auto& registers = static_cast<const ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  return static_cast<std::uint64_t>(registers.gregs[REG_RIP]);
#elif defined(__aarch64__)
  return registers.pc;
#endif
}

std::uint64_t stack_pointer(const void* context) noexcept {
  const auto& registers = static_cast<const ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  return static_cast<std::uint64_t>(registers.gregs[REG_RSP]);
#elif defined(__aarch64__)
  return registers.sp;
#endif
}

// Copies what fits; what there was behind it is zero.
template <std::size_t n>
void copy_text(char (&to)[n], const char* from) noexcept {
  std::size_t i = 0;
  for (; i < n - 1 && from[i]; ++i) to[i] = from[i];
  to[i] = 0;
}

// /proc/self/maps, line by line, with read(2) alone.
class Maps {
 public:
  Maps() noexcept : fd_(::open("/proc/self/maps", O_RDONLY | O_CLOEXEC)) {}
  ~Maps() {
    if (fd_ >= 0) ::close(fd_);
  }
  bool open() const noexcept { return fd_ >= 0; }
  std::uint64_t begin = 0, end = 0;
  char access[5] = {};         // "rw-p"
  const char* path = nullptr;  // "" for memory that is no file's
  const char* name = nullptr;  // path, or "[heap]"; ""

  bool next() noexcept {
    char* const line = next_line();
    if (line == nullptr) return false;
    const char* p = line;
    begin = hex(p);
    if (*p == '-') ++p;
    end = hex(p);
    if (*p == ' ') ++p;
    for (int i = 0; i < 4 && *p && *p != ' '; ++i) access[i] = *p++;
    const char* const nothing = p + std::strlen(p);
    path = std::strchr(p, '/');
    if (!path) path = nothing;
    name = *path ? path : std::strchr(p, '[');
    if (!name) name = nothing;
    return true;
  }

 private:
  // In the buffer, where it is overwritten by the next. Of one that does not fit, an endless path, what does.
  char* next_line() noexcept {
    for (;;) {
      char* const from = buffer_ + pos_;
      if (auto* newline = static_cast<char*>(std::memchr(from, '\n', size_ - pos_))) {
        *newline = 0;
        pos_ = static_cast<std::size_t>(newline + 1 - buffer_);
        if (!std::exchange(cut_, false)) return from;
        continue;  // the rest of a line that did not fit
      }
      if (size_ - pos_ == sizeof buffer_ - 1) {
        from[size_ - pos_] = 0;
        pos_ = size_ = 0;
        if (!std::exchange(cut_, true)) return from;
        continue;
      }
      std::memmove(buffer_, from, size_ -= pos_);
      pos_ = 0;
      const ssize_t n = fd_ >= 0 ? ::read(fd_, buffer_ + size_, sizeof buffer_ - 1 - size_) : 0;
      if (n <= 0) return nullptr;
      size_ += static_cast<std::size_t>(n);
    }
  }
  static std::uint64_t hex(const char*& p) noexcept {
    std::uint64_t value = 0;
    for (;; ++p) {
      if (*p >= '0' && *p <= '9') value = value * 16 + static_cast<std::uint64_t>(*p - '0');
      else if (*p >= 'a' && *p <= 'f') value = value * 16 + static_cast<std::uint64_t>(*p - 'a' + 10);
      else return value;
    }
  }
  int fd_;
  std::size_t pos_ = 0, size_ = 0;
  bool cut_ = false;
  char buffer_[2048];
};

// Module and offset of each frame; paths that no longer fit leave their frames as bare addresses.
void resolve(Crash& crash, std::size_t count) noexcept {
  Maps maps;
  char path[sizeof crash.modules] = {};
  std::uint64_t module_begin = 0;
  std::size_t used = 0;
  std::uint16_t modules = 0;
  bool noted = false;
  while (maps.next()) {
    if (std::strcmp(maps.path, path) != 0) {
      std::strncpy(path, maps.path, sizeof path - 1);
      module_begin = maps.begin;
      noted = false;
    }
    if (!*path) continue;
    for (std::size_t i = 0; i < count; ++i) {
      Frame& frame = crash.frames[i];
      if (frame.module != 0xffff || frame.offset < maps.begin || frame.offset >= maps.end) continue;
      std::size_t length = std::strlen(path) + 1;
      if (!noted) {
        if (used + length > sizeof crash.modules) break;
        std::memcpy(crash.modules + used, path, length);
        used += length;
        ++modules;
        noted = true;
      }
      frame.offset -= module_begin;
      frame.module = static_cast<std::uint16_t>(modules - 1);
    }
  }
}

// How near to the last mapping an address is told as one beyond it, and how far below a stack's end one that it wanted to grow to.
constexpr std::uint64_t kNear = 64 * 1024, kStackGap = 4u << 20;

// What the fault address lies in.
void find_place(Crash& crash, std::uint64_t address, std::uint64_t stack) noexcept {
  Maps maps;
  if (!maps.open()) return;
  Place place = Place::unmapped;
  std::uint64_t end_before = 0, no_access_end = 0;
  while (maps.next()) {
    if (maps.end <= address) {
      if (address - maps.end < kNear) {
        copy_text(crash.mapping, maps.name);
        copy_text(crash.access, maps.access);
      }
      end_before = maps.end;
      continue;
    }
    const bool stack_here = stack < maps.end && stack + kStackGap > maps.begin;
    if (no_access_end != 0) {
      // A thread's stack lies right behind pages that may not be touched.
      if (maps.begin == no_access_end && maps.access[1] == 'w' && stack_here) place = Place::stack_guard;
    } else if (maps.begin <= address) {
      place = memory::contains(reinterpret_cast<const void*>(address)) ? Place::shared : Place::mapped;
      copy_text(crash.mapping, maps.name);
      copy_text(crash.access, maps.access);
      if (maps.access[0] == '-' && maps.access[1] == '-') {
        no_access_end = maps.end;
        continue;
      }
    } else if (maps.begin - address < kStackGap && stack_here && std::strcmp(maps.name, "[stack]") == 0) {
      place = Place::stack_guard;  // the kernel grows that of the main thread, until its limit
    }
    break;
  }
  if (place == Place::unmapped) {
    if (end_before != 0 && address - end_before < kNear) crash.distance = address - end_before;
    else crash.mapping[0] = crash.access[0] = 0;
  }
  crash.place.store(place, std::memory_order_release);
}

bool is_fault(int signal, int code) noexcept { return code > 0 && (signal == SIGSEGV || signal == SIGBUS); }

void describe(Record& record, int signal, const siginfo_t& info, const void* context) noexcept {
  Crash& crash = record.crash;
  crash.code = info.si_code;
  crash.address =
      info.si_code <= 0 ? static_cast<std::uint64_t>(info.si_pid) : reinterpret_cast<std::uint64_t>(info.si_addr);
  crash.thread = static_cast<std::int32_t>(::syscall(SYS_gettid));
  record.usage.store(os::usage_now());
  crash.signal.store(signal, std::memory_order_release);

  // A general protection fault (SI_KERNEL) does not say where.
  if (is_fault(signal, info.si_code) && info.si_code != SI_KERNEL)
    find_place(crash, crash.address, stack_pointer(context));

  // From here on a second fault (a broken stack) ends the process with what is known so far.
  Trace trace{};
  std::uint64_t at = interrupted_at(context);
  _Unwind_Backtrace(note_frame, &trace);
  std::size_t first = 0;
  while (first < trace.count && trace.addresses[first] != at) ++first;
  std::size_t count = 0;
  auto add = [&](std::uint64_t address) {
    if (count < Crash::kMaxFrames) crash.frames[count++] = {address, 0xffff};
  };
  add(at);
  // Not found: the instruction pointer itself is what broke; then all beyond this handler and the kernel's return stub.
  for (std::size_t i = first < trace.count ? first + 1 : 3; i < trace.count; ++i) add(trace.addresses[i]);
  resolve(crash, count);
  crash.frame_count.store(static_cast<std::uint32_t>(count), std::memory_order_release);
}

void on_crash(int signal, siginfo_t* info, void* context) { crash_by(signal, info, context, true); }

std::terminate_handler terminate_before = nullptr;

[[noreturn]] void on_terminate() {
  static std::atomic<bool> begun{false};  // once: what() may throw, and end here again
  if (Record* record = begun.exchange(true, std::memory_order_relaxed) ? nullptr : own_record()) {
    Crash& crash = record->crash;
    if (const std::type_info* type = abi::__cxa_current_exception_type()) {
      copy_text(crash.exception, type->name());
      try {
        throw;
      } catch (const std::exception& e) {
        copy_text(crash.exception_what, e.what());
      } catch (...) {}
    }
    crash.terminated.store(1, std::memory_order_release);
  }
  terminate_before();  // never null: the C++ library's own prints the exception and aborts
  std::abort();
}

}  // namespace

void describe_terminations() noexcept {
  const auto before = std::set_terminate(on_terminate);
  if (before != on_terminate) terminate_before = before;
}

void crash_by(int signal, siginfo_t* info, void* context, bool core) noexcept {
  if (Record* record = own_record()) {
    if (crashing.exchange(record, std::memory_order_acq_rel) != record) {
      describe(*record, signal, *info, context);
    } else {
      // Another thread is at it; it ends us all when it is done.
      timespec second{1, 0};
      ::nanosleep(&second, nullptr);
    }
  }
  if (!core) ::prctl(PR_SET_DUMPABLE, 0);
  // The default action, for the right exit status and core file. The signal waits until this handler returns.
  struct sigaction standard{};
  standard.sa_handler = SIG_DFL;
  ::sigaction(signal, &standard, nullptr);
  ::syscall(SYS_tgkill, ::getpid(), ::syscall(SYS_gettid), signal);
}

[[gnu::hot]] void catch_crashes() noexcept {
  stack_t now{};
  if (::sigaltstack(nullptr, &now) == 0 && (now.ss_flags & SS_DISABLE)) {
    stack_t mine{};
    mine.ss_sp = alternate_stack;
    mine.ss_size = sizeof alternate_stack;
    ::sigaltstack(&mine, nullptr);
  }
  struct sigaction action{};
  action.sa_sigaction = on_crash;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (std::uint64_t left = kSignals; left; left &= left - 1) ::sigaddset(&action.sa_mask, std::countr_zero(left));
  for (std::uint64_t left = kSignals; left; left &= left - 1) {
    const int signal = std::countr_zero(left);
    // Somebody's handler is the exception: it costs a second call, and is away for a moment in which nobody else runs here.
    struct sigaction present{};
    if (::sigaction(signal, &action, &present) == 0 &&
        ((present.sa_flags & SA_SIGINFO) || present.sa_handler != SIG_DFL))
      ::sigaction(signal, &present, nullptr);
  }
}

}  // namespace mp::process
