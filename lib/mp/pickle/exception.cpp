#include "mp/pickle/exception.hpp"

#include <cxxabi.h>
#include <string.h>
#include <unistd.h>

#include <any>
#include <atomic>
#include <filesystem>
#include <functional>
#include <future>
#include <ios>
#include <new>
#include <regex>
#include <stdexcept>
#include <typeinfo>

#include "mp/os/symbol.hpp"

namespace mp::pickle {
namespace {

using detail::Details;
using detail::ExceptionCodec;

constexpr std::size_t kMostText = 64 * 1024;
constexpr int kMostNested = 16;

constinit std::atomic<const ExceptionCodec*> codecs{nullptr};

// A codec for an E that is written by `write` and made again by `make`.
template <class E, auto write, auto make>
void add() {
  static ExceptionCodec codec{typeid(E).name(), detail::remote_name<E>(),
                              [](Writer& w, const std::exception_ptr& e) {
                                try {
                                  std::rethrow_exception(e);
                                } catch (const E& object) {
                                  write(w, object);
                                }
                              },
                              [](Reader& r, Details details) {
                                E e = make(r, *details);
                                return detail::make_remote<E>(std::move(e), std::move(details));
                              },
                              nullptr};
  detail::add_codec(codec);
}

template <class... E>
void add_by_text() {
  (register_exception<E>(), ...);
}

constexpr auto write_nothing = [](Writer&, const auto&) {};
template <class... E>
void add_default() {
  (add<E, write_nothing, [](Reader&, const RemoteDetails&) { return E(); }>(), ...);
}

constexpr auto write_code = [](Writer& w, const auto& e) { dump(w, e.code()); };

// One that a worker made of its own task does not know yet which that is in its pool.
CrashDetails load_report(Reader& r, const RemoteDetails& origin) {
  auto details = load<CrashDetails>(r);
  if (details.task == 0 && !details.item) {
    details.task = origin.task;
    details.task_name = origin.task_name;
  }
  return details;
}
template <class E>
void add_report() {
  add<E, [](Writer& w, const E& e) { dump(w, e.details()); },
      [](Reader& r, const RemoteDetails& d) { return E(load_report(r, d)); }>();
}

std::regex_constants::error_type load_regex_code(Reader& r) {
  const int code = r.get<int>("std::regex_error"), most = static_cast<int>(std::regex_constants::error_stack);
  if (code < 0 || code > most) malformed("std::regex_error", "its code is none of those there are");
  return static_cast<std::regex_constants::error_type>(code);
}

void add_known() {
  add_by_text<std::logic_error, std::domain_error, std::invalid_argument, std::length_error, std::out_of_range,
              std::runtime_error, std::range_error, std::overflow_error, std::underflow_error>();
  add_default<std::exception, std::bad_exception, std::bad_alloc, std::bad_array_new_length, std::bad_cast,
              std::bad_typeid, std::bad_optional_access, std::bad_variant_access, std::bad_any_cast, std::bad_weak_ptr,
              std::bad_function_call>();
  add<std::system_error, write_code,
      [](Reader& r, const RemoteDetails& d) { return std::system_error(load<std::error_code>(r), d.what); }>();
  add<std::ios_base::failure, write_code,
      [](Reader& r, const RemoteDetails& d) { return std::ios_base::failure(d.what, load<std::error_code>(r)); }>();
  add<std::filesystem::filesystem_error,
      [](Writer& w, const std::filesystem::filesystem_error& e) {
        dump(w, e.code());
        dump(w, e.path1());
        dump(w, e.path2());
      },
      [](Reader& r, const RemoteDetails& d) {
        const auto code = load<std::error_code>(r);
        const auto first = load<std::filesystem::path>(r);
        return std::filesystem::filesystem_error(d.what, first, load<std::filesystem::path>(r), code);
      }>();
  add<std::future_error, [](Writer& w, const std::future_error& e) { w.put(e.code().value()); },
      [](Reader& r, const RemoteDetails&) {
        return std::future_error(static_cast<std::future_errc>(r.get<int>("std::future_error")));
      }>();
  add<std::regex_error, [](Writer& w, const std::regex_error& e) { w.put(static_cast<int>(e.code())); },
      [](Reader& r, const RemoteDetails&) { return std::regex_error(load_regex_code(r)); }>();

  add_by_text<Error, ValueError, EOFError, ProcessError, TimeoutError, AuthenticationError, PicklingError,
              UnpicklingError, CancelledError, InvalidStateError, BrokenExecutor, BrokenProcessPool, BrokenThreadPool,
              OwnerDied>();
  add_default<Empty, Full, ShutDown, BrokenBarrierError>();
  constexpr auto write_errno = [](Writer& w, const OSError& e) { w.put(e.code().value()); };
  add<OSError, write_errno, [](Reader& r, const RemoteDetails& d) { return OSError(r.get<int>("OSError"), d.what); }>();
  add<BrokenPipeError, write_errno,
      [](Reader& r, const RemoteDetails& d) { return BrokenPipeError(r.get<int>("BrokenPipeError"), d.what); }>();
  add<BufferTooShort, [](Writer& w, const BufferTooShort& e) { w.put_text(e.message()); },
      [](Reader& r, const RemoteDetails&) { return BufferTooShort(std::string(r.get_text("BufferTooShort"))); }>();
  add<SharedMemoryFull,
      [](Writer& w, const SharedMemoryFull& e) {
        for (std::uint64_t n : {e.asked(), e.used(), e.allowed()}) w.put(n);
      },
      [](Reader& r, const RemoteDetails&) {
        const auto asked = r.get<std::uint64_t>("SharedMemoryFull"), used = r.get<std::uint64_t>("SharedMemoryFull");
        return SharedMemoryFull(asked, used, r.get<std::uint64_t>("SharedMemoryFull"));
      }>();
  add_report<WorkerCrashed>();
  add_report<LimitExceeded>();
  add_report<TaskTimeout>();
}

const ExceptionCodec* find_codec(std::string_view name) {
  static const bool known = (add_known(), true);
  static_cast<void>(known);
  for (const auto* codec = codecs.load(std::memory_order_acquire); codec != nullptr; codec = codec->next)
    if (name == codec->name || (name == codec->remote && !name.empty())) return codec;
  // What std::throw_with_nested throws is derived from the exception that it was given.
  constexpr std::string_view nested = "St17_Nested_exceptionI";
  if (name.starts_with(nested) && name.ends_with('E'))
    return find_codec(name.substr(nested.size(), name.size() - nested.size() - 1));
  return nullptr;
}

std::string bounded(const char* text) {
  return text == nullptr ? std::string() : std::string(text, ::strnlen(text, kMostText));
}

// Type, text and nested exceptions of one exception, without trusting it further than necessary.
struct Seen {
  std::string name;  // type_info's
  std::string what;
  std::exception_ptr inner;
  std::shared_ptr<const RemoteDetails> remote;  // a copy, if it came from elsewhere
};

std::exception_ptr inner_of(const auto& e) {
  const auto* nested = dynamic_cast<const std::nested_exception*>(&e);
  return nested != nullptr ? nested->nested_ptr() : nullptr;
}

Seen look_at(const std::exception_ptr& e) {
  Seen seen;
  const auto note_type = [&] {
    if (const std::type_info* type = abi::__cxa_current_exception_type()) seen.name = type->name();
  };
  try {
    std::rethrow_exception(e);
  } catch (const std::exception& x) {
    note_type();
    // The text of a crash holds its stack, which is sent as such: the receiver makes it again.
    const auto* crash = dynamic_cast<const CrashReport*>(&x);
    seen.what = bounded(crash != nullptr ? crash->headline().c_str() : x.what());
    seen.inner = inner_of(x);
    if (const RemoteDetails* remote = remote_of(x)) seen.remote = std::make_shared<const RemoteDetails>(*remote);
  } catch (const RemoteCarrier& x) {
    note_type();
    seen.remote = std::make_shared<const RemoteDetails>(x.details());
  } catch (const std::nested_exception& x) {
    note_type();
    seen.inner = x.nested_ptr();
  } catch (const std::string& x) {
    note_type();
    seen.what = x.substr(0, kMostText);
  } catch (const char* x) {
    note_type();
    seen.what = bounded(x);
  } catch (int x) {
    note_type();
    seen.what = std::to_string(x);
  } catch (...) {
    note_type();
  }
  return seen;
}

std::string one_line(const Seen& seen) {
  const std::string type = seen.remote ? seen.remote->type : os::demangled(seen.name.c_str());
  return seen.what.empty() ? type : type + ": " + seen.what;
}

void dump_details(Writer& w, const RemoteDetails& d) {
  w.put_text(d.type);
  w.put_text(d.what);
  dump(w, d.nested);
  w.put_text(d.worker);
  w.put(static_cast<std::int64_t>(d.pid));
  w.put_size(d.task);
  w.put_text(d.task_name);
  dump(w, d.stack);
}

std::shared_ptr<RemoteDetails> load_details(Reader& r) {
  auto d = std::make_shared<RemoteDetails>();
  d->type = r.get_text("exception");
  d->what = r.get_text("exception");
  d->nested = load<std::vector<std::string>>(r);
  d->worker = r.get_text("exception");
  d->pid = static_cast<pid_t>(r.get<std::int64_t>("exception"));
  d->task = r.get_varint("exception");
  d->task_name = r.get_text("exception");
  d->stack = load<os::Stack>(r);
  return d;
}

}  // namespace

void detail::add_codec(ExceptionCodec& codec) noexcept {
  codec.next = codecs.load(std::memory_order_relaxed);
  while (!codecs.compare_exchange_weak(codec.next, &codec, std::memory_order_release, std::memory_order_relaxed)) {}
}

void dump_exception(Writer& w, const std::exception_ptr& e, const os::Stack& stack) {
  if (!e) return dump_exception(w, std::make_exception_ptr(std::bad_exception()), stack);
  Seen seen = look_at(e);
  RemoteDetails details;
  if (seen.remote) {
    details = *seen.remote;
  } else {
    details.type = os::demangled(seen.name.c_str());
    details.what = seen.what;
    details.pid = ::getpid();
    details.stack = stack;
    std::exception_ptr inner = seen.inner;
    for (int depth = 0; inner && depth < kMostNested; ++depth) {
      Seen deeper = look_at(inner);
      details.nested.push_back(one_line(deeper));
      inner = deeper.inner;
    }
  }
  // The object itself apart, so that one that fails to be written or read takes nothing with it.
  Writer object;
  const ExceptionCodec* codec = find_codec(seen.name);
  if (codec != nullptr) {
    try {
      codec->dump(object, e);
    } catch (...) {
      codec = nullptr;
      object.clear();
    }
  }
  w.put_text(codec != nullptr ? codec->name : "");
  dump_details(w, details);
  for (memory::Offset shared : object.carried()) w.carry(shared);
  w.put_size(object.size());
  w.write(object.bytes().data(), object.size());
}

std::exception_ptr load_exception(Reader& r, const Origin& origin) {
  const std::string_view name = r.get_text("exception");
  std::shared_ptr<RemoteDetails> details = load_details(r);
  if (details->worker.empty()) details->worker = origin.worker;
  if (details->pid == 0) details->pid = origin.pid;
  if (details->task == 0) details->task = origin.task;
  if (details->task_name.empty()) details->task_name = origin.task_name;
  const std::size_t size = r.get_size(1, "exception");
  Reader object({r.take(size, "exception"), size});
  if (const ExceptionCodec* codec = name.empty() ? nullptr : find_codec(name)) {
    try {
      return codec->load(object, details);
    } catch (...) {
      // Not to be had as its own type here; told as RemoteError.
    }
  }
  return std::make_exception_ptr(RemoteError(std::move(details)));
}

namespace detail {

void dump_exception_value(Writer& w, const std::exception_ptr& e) {
  w.put(static_cast<std::uint8_t>(e != nullptr));
  if (e) dump_exception(w, e, {});
}

std::exception_ptr load_exception_value(Reader& r) { return load<bool>(r) ? load_exception(r) : nullptr; }

}  // namespace detail
}  // namespace mp::pickle
