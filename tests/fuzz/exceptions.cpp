// Exceptions from another process: what was read can be thrown, looked into and sent on.
#include <filesystem>
#include <regex>
#include <stdexcept>

#include "fuzz.hpp"
#include "mp/pickle/exception.hpp"

namespace {

using namespace mp::pickle;

struct Custom : std::runtime_error {
  using std::runtime_error::runtime_error;
};
const bool known = mp::register_exception<Custom>();

// All that it tells without looking symbols up.
void look_into(const std::exception_ptr& e) {
  try {
    std::rethrow_exception(e);
  } catch (const mp::WorkerCrashed& crash) {
    static_cast<void>(mp::crash_cause(crash.details()));
  } catch (const std::exception& x) {
    static_cast<void>(std::string(x.what()));
  }
  const mp::RemoteDetails* details = mp::remote_of(e);
  if (details == nullptr) return;
  for (const auto& frame : details->stack.frames) static_cast<void>(frame);
}

std::string seed(const std::exception_ptr& e) {
  Writer w;
  dump_exception(w, e, mp::os::Stack());
  return fuzz::portable(w.bytes());
}
template <class E>
std::string seed_of(const E& e) {
  return seed(std::make_exception_ptr(e));
}

std::exception_ptr nested() {
  try {
    try {
      throw std::out_of_range("inner");
    } catch (...) {
      std::throw_with_nested(Custom("outer"));
    }
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace

std::vector<fuzz::Seed> fuzz::seeds() {
  mp::CrashDetails crash{.signal = 11, .code = 1, .address = 16, .function = "f", .worker = "w", .pid = 7};
  crash.stack.files = {"/bin/true"};
  return {
      {"standard", seed_of(std::out_of_range("oops"))},
      {"without-text", seed_of(std::bad_alloc())},
      {"registered", seed_of(Custom("mine"))},
      {"nested", seed(nested())},
      {"number", seed_of(42)},
      {"system-error", seed_of(std::system_error(EINTR, std::system_category(), "call"))},
      {"filesystem-error",
       seed_of(std::filesystem::filesystem_error("w", "a", "b", std::make_error_code(std::errc::io_error)))},
      {"regex-error", seed_of(std::regex_error(std::regex_constants::error_brack))},
      {"os-error", seed_of(mp::OSError(ENOSPC, "open"))},
      {"buffer-too-short", seed_of(mp::BufferTooShort("abc"))},
      {"shared-memory-full", seed_of(mp::SharedMemoryFull(1, 2, 3))},
      {"worker-crashed", seed_of(mp::WorkerCrashed(crash))},
  };
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input in(data, size);
  fuzz::refused([&] {
    Reader reader(in.rest());
    const std::exception_ptr e = load_exception(reader, {.worker = "worker", .pid = 1, .task = 2});
    look_into(e);
    Writer again;
    dump_exception(again, e, mp::os::Stack());
    Reader second(again.bytes());
    if (fuzz::refused([&] { look_into(load_exception(second)); })) std::abort();
  });
  return 0;
}
