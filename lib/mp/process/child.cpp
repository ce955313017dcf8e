#include "mp/process/child.hpp"

#include <cxxabi.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <ext/stdio_sync_filebuf.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>
#include <mutex>
#include <new>
#include <typeinfo>

#include "mp/errors.hpp"
#include "mp/memory/family.hpp"
#include "mp/os/call.hpp"
#include "mp/os/fork_page.hpp"
#include "mp/os/life.hpp"
#include "mp/os/stdio.hpp"
#include "mp/os/system_call.hpp"
#include "mp/os/tether.hpp"
#include "mp/os/threads.hpp"
#include "mp/pickle/code.hpp"
#include "mp/process/context.hpp"
#include "mp/process/server.hpp"

namespace mp::process {
namespace {

// This process. `own`, `end_of` and `role` are written when it settles and by the fork hook; the rest under `mutex`. What it
// is called stands in its record as long as it has not been renamed.
struct Mine {
  std::mutex mutex;
  std::atomic<Record*> own{nullptr};
  std::atomic<Tag> end_of{memory::kNobody};  // for whom the exit handler is registered
  Role role = Role::root;
  unsigned children = 0;
  std::string name;  // "": as in the record
};
union Undestroyed {  // it outlives every destructor
  constexpr Undestroyed() : mine() {}
  ~Undestroyed() {}
  Mine mine;
};
MP_FORK_PAGE constinit Undestroyed storage;
Mine& mine() noexcept { return storage.mine; }

// What the family knows of the calling process, or, in a child of the program's own fork(2), of the process that it is a copy of;
// null in the root and its copies. The member keeps it.
const Record* description() {
  Offset record = memory::member(memory::self()).record.load(std::memory_order_acquire);
  return record ? memory::at<Record>(record) : nullptr;
}

std::string name_of(const Mine& m) {
  if (!m.name.empty()) return m.name;
  const Record* record = description();
  return record ? std::string(text_of(record->name)) : "MainProcess";
}

// A child of the program's own fork(2) keeps name and parent of the process it is a copy of, and has no record.
[[gnu::hot]] void after_fork() noexcept {
  Mine& m = mine();
  new (&m.mutex) std::mutex;
  m.own.store(nullptr, std::memory_order_relaxed);
  m.end_of.store(memory::kNobody, std::memory_order_relaxed);
  m.children = 0;
  forget_concluding();
  forget_children();
  forget_forkserver();
}
const bool hooked [[maybe_unused]] = [] {
  memory::at_fork_in_child(after_fork);
  return true;
}();

// Whether output may wait in a stream's buffer. The one that the standard streams begin with keeps none, it writes to
// stdio; to know that costs a child nothing, to ask for a flush costs it pages of the C++ library.
template <class Char>
[[gnu::hot]] bool may_hold_output(const std::basic_ostream<Char>& stream) {
  const std::basic_streambuf<Char>* buffer = stream.rdbuf();
  return buffer && typeid(*buffer) != typeid(__gnu_cxx::stdio_sync_filebuf<Char>);
}

[[gnu::hot]] void flush_standard_streams() {
  if (may_hold_output(std::cout)) std::cout.flush();
  if (may_hold_output(std::clog)) std::clog.flush();
  if (may_hold_output(std::wcout)) std::wcout.flush();
  if (may_hold_output(std::wclog)) std::wclog.flush();
}

// The last of the library's acts in this process (on_exit(3): atexit does not tell the exit code).
[[gnu::hot]] void end(int status, void*) {
  Mine& m = mine();
  if (m.end_of.load(std::memory_order_relaxed) != memory::self())
    return;  // inherited by a fork(2) of the program's own
  m.end_of.store(memory::kNobody, std::memory_order_relaxed);
  stop_children();
  stop_forkserver();
  if (m.role == Role::root) return;
  flush_standard_streams();
  os::flush_files();
  if (Record* record = m.own.load(std::memory_order_relaxed)) {
    record->usage.store(os::usage_now());
    record->own_end.store(0x100u | (static_cast<std::uint32_t>(status) & 0xff), std::memory_order_release);
  }
  if (m.role == Role::forked) ::_exit(status & 0xff);
}

[[gnu::hot]] void register_end() {
  if (::on_exit(end, nullptr) != 0) throw Error("no room for an exit handler");
  mine().end_of.store(memory::self(), std::memory_order_relaxed);
}

// Dies with `holder`, or at once if that is gone.
void tether(pid_t holder, int its_end) {
  if (!os::tether_to(holder, its_end)) ::_exit(128 + SIGKILL);
}

[[gnu::hot]] bool is_null_device(int fd) noexcept {
  struct stat file;
  return os::call_again(os::Call::fstat, [&] { return os::system_call(SYS_fstat, fd, &file); }) == 0 &&
         S_ISCHR(file.st_mode) && file.st_rdev == ::makedev(1, 3);
}

void open_null_as_input() noexcept {
  int null = os::call_again(os::Call::open, [] { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); });
  if (null < 0) return;
  if (null == 0) {
    os::call_again(os::Call::fcntl, [] { return ::fcntl(0, F_SETFD, 0); });
  } else {
    os::call_again(os::Call::dup, [&] { return ::dup2(null, 0); });
    ::close(null);
  }
}

// A child of several processes that read the terminal together would steal from them. Neither shall it see what its
// parent has read ahead, or its end of file; where there is nothing of the kind, the pages of the streams stay shared.
[[gnu::hot]] void close_standard_input() noexcept {
  if (!is_null_device(0)) open_null_as_input();
  if (stdin->_IO_read_ptr != stdin->_IO_read_end) ::__fpurge(stdin);
  if (::feof_unlocked(stdin) || ::ferror_unlocked(stdin)) std::clearerr(stdin);
  if (!std::cin.good()) std::cin.clear();
  const std::streambuf& ahead_of_it = *std::cin.rdbuf();
  if (typeid(ahead_of_it) == typeid(__gnu_cxx::stdio_sync_filebuf<char>)) return;  // reads from stdin
  if (auto ahead = std::cin.rdbuf()->in_avail(); ahead > 0) std::cin.ignore(ahead);
}

// "Process NAME:" and the exception, as far as it can be told.
void report_uncaught() noexcept {
  std::string text = "Process " + self_info().name + ":\n";
  auto type_name = [](const std::type_info* type) -> std::string {
    if (!type) return "unknown exception";
    int status = 0;
    char* readable = abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
    std::string name = status == 0 ? readable : type->name();
    std::free(readable);
    return name;
  };
  try {
    throw;
  } catch (const std::exception& e) {
    text += type_name(&typeid(e)) + ": " + e.what();
  } catch (...) {
    text += type_name(abi::__cxa_current_exception_type());
  }
  text += '\n';
  std::cout.flush();
  std::fflush(stdout);
  std::fputs(text.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace

[[gnu::hot]] Record* own_record() noexcept { return mine().own.load(std::memory_order_acquire); }

[[gnu::hot]] void settle(Record& record, Role role) {
  record.pid.store(::getpid(), std::memory_order_relaxed);
  if (!move_on(record, Phase::requested, make_status(Phase::running)) && status_of(record).phase() != Phase::running)
    ::_exit(0);
  Mine& m = mine();
  m.role = role;
  if (!m.name.empty()) m.name.clear();
  m.own.store(&record, std::memory_order_release);
  if (record.tether_to_server) tether(server_pid(), server_tether_end());
  if (record.holder_end >= 0) {
    tether(record.parent_pid, record.holder_end);
    if (!memory::alive(record.parent)) ::_exit(128 + SIGKILL);  // the pid was somebody else's already
  }
  close_standard_input();
  catch_crashes();
  if (record.method != static_cast<std::uint8_t>(StartMethod::fork)) {
    // No copy of the parent as it is now.
    auto method = static_cast<StartMethod>(record.default_method);
    set_start_method(record.default_method == kNoMethod ? std::nullopt : std::optional(method), true);
  }
  register_end();
  if (record.awaits_holder && !wait_until_held(record)) ::_exit(255);
}

namespace {

// Of a server's child that has left the server's code and not yet begun as what it was forked to be.
MP_FORK_PAGE Record* reborn_as = nullptr;

template <class Body>
[[gnu::hot]] int live_once(Record& record, Role role, const Body& body) noexcept {
  bool settled = false;
  try {
    settle(record, role);
    settled = true;
    return body();
  } catch (abi::__forced_unwind&) {
    std::abort();  // pthread_exit() in a process's only thread of ours: there is no code to give
  } catch (const OSError& e) {
    if (!settled) record.refused.store(e.code().value(), std::memory_order_release);
    report_uncaught();
  } catch (...) {
    report_uncaught();
  }
  return 1;
}

int live_entry_once(Record& record, Role role) noexcept {
  return live_once(record, role, [&record] {
    Entry entry = pickle::code_as<Entry>(record.entry);
    return entry(record.payload.load(std::memory_order_acquire));
  });
}

// With `code`, but for a server's child.
[[noreturn, gnu::hot]] void end_with(int code) noexcept {
  while (Record* record = std::exchange(reborn_as, nullptr)) code = live_entry_once(*record, Role::forked);
  std::exit(code);
}

}  // namespace

[[gnu::hot]] void live(Record& record, Role role, Body body) noexcept {
  end_with(live_once(record, role, [body] { return body.run(body.what); }));
}

void live_entry(Record& record, Role role) noexcept { end_with(live_entry_once(record, role)); }

void be_reborn_as(Record& record) noexcept { reborn_as = &record; }

void drop_payload() noexcept {
  if (Record* record = own_record()) drop_payload_of(*record);
}

void watch_own_end() {
  MP_FORK_PAGE static std::mutex registering;
  std::lock_guard guard(registering);
  if (mine().end_of.load(std::memory_order_relaxed) != memory::self()) {
    // A child of the program's own fork(2) ends like a root: its parent's handlers are its own business.
    mine().role = Role::root;
    register_end();
  }
}

Self self_info() {
  Mine& m = mine();
  std::lock_guard guard(m.mutex);
  const Record* record = description();
  if (!record) return {.name = name_of(m)};
  return {name_of(m),
          std::string(text_of(record->identity)),
          std::string(text_of(record->parent_name)),
          record->parent,
          record->parent_pid,
          record->daemon != 0};
}

bool is_daemon() {
  const Record* record = description();
  return record && record->daemon != 0;
}

void rename_self(const std::string& name) {
  Mine& m = mine();
  std::lock_guard guard(m.mutex);
  m.name = name;
  if (Record* record = own_record()) set_text(record->name, name);
}

std::string next_identity() {
  Mine& m = mine();
  std::lock_guard guard(m.mutex);
  const Record* record = description();
  return (record && *record->identity ? std::string(text_of(record->identity)) + ':' : "") +
         std::to_string(++m.children);
}

void fill_record(Record& record, const memory::Ref& ref, const std::string& name, const std::string& identity,
                 bool daemon) {
  set_text(record.name, name);
  set_text(record.identity, identity);
  set_text(record.parent_name, self_info().name);
  record.daemon = daemon;
  record.parent = memory::self();
  record.parent_pid = ::getpid();
  auto method = get_start_method_if_set();
  record.default_method = method ? static_cast<std::uint8_t>(*method) : kNoMethod;
  record.tag = memory::enlist(record.parent);
  memory::retain(ref.offset());
  memory::member(record.tag).record.store(ref.offset(), std::memory_order_release);
}

void flush_streams(unsigned other_threads) noexcept {
  try {
    flush_standard_streams();
  } catch (...) {  // a stream that throws has its own user to tell
  }
  if (other_threads == 0) return os::flush_files();
  // fflush(nullptr) would wait for a thread that sits in a read of its stream.
  for (FILE* stream : {stdout, stderr}) {
    if (::ftrylockfile(stream) != 0) continue;
    ::fflush_unlocked(stream);
    ::funlockfile(stream);
  }
}

void warn_of_threads(unsigned others) noexcept {
  static std::atomic<bool> warned{false};
  if (others == 0 || warned.exchange(true, std::memory_order_relaxed)) return;
  std::fprintf(stderr,
               "mp: process %d is being forked while %u other thread%s of the program run%s: a lock that one of them "
               "holds stays locked in "
               "the child for ever. Start processes before threads, or use spawn or forkserver.\n",
               ::getpid(), others, others == 1 ? "" : "s", others == 1 ? "s" : "");
}

}  // namespace mp::process
