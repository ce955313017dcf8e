#include "mp/pickle/exception.hpp"

#include <doctest/doctest.h>

#include <signal.h>
#include <unistd.h>

#include <any>
#include <filesystem>
#include <functional>
#include <future>
#include <regex>

#include "mp/memory/family.hpp"

using namespace mp::pickle;

namespace bad {

// Registered, rebuilt from its text.
class Scene : public std::runtime_error {
 public:
  explicit Scene(const std::string& file) : std::runtime_error("bad scene " + file) {}
};
// Registered, pickled by its own functions; no std::exception.
class Number {
 public:
  explicit Number(int n) : n_(n) {}
  int n() const { return n_; }
  void mp_pickle(Writer& w) const { w.put(n_); }
  static Number mp_unpickle(Reader& r) { return Number(r.get<int>("Number")); }

 private:
  int n_;
};
// Registered, an aggregate, and final.
struct Plain final {
  std::string text;
};
// Registered, but fails when it is written.
class Stubborn : public std::logic_error {
 public:
  explicit Stubborn(int) : std::logic_error("stubborn") {}
  void mp_pickle(Writer&) const { throw 42; }
  static Stubborn mp_unpickle(Reader&) { return Stubborn(0); }
};
class Unknown : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
struct Mute : std::exception {
  const char* what() const noexcept override { return nullptr; }
};
struct Uncopyable {
  Uncopyable() = default;
  Uncopyable(const Uncopyable&) { throw 1; }
};

const bool known = mp::register_exception<Scene>() && mp::register_exception<Number>() &&
                   mp::register_exception<Plain>() && mp::register_exception<Stubborn>();

[[gnu::noinline]] void throw_deep_inside(int n) {
  if (n > 0) throw std::out_of_range("n is " + std::to_string(n));
}

}  // namespace bad

namespace {

// Throws `f` in a watched call, sends what comes out, and gives what arrives.
template <class F>
std::exception_ptr send(F f, const Origin& origin = {}) {
  Writer w;
  try {
    mp::os::call_watched(f);
  } catch (...) {
    dump_exception(w, std::current_exception());
  }
  Reader r(w.bytes());
  std::exception_ptr e = load_exception(r, origin);
  CHECK(r.remaining() == 0);
  return e;
}

template <class E, class Check>
void arrives(const std::exception_ptr& e, Check check) {
  try {
    std::rethrow_exception(e);
  } catch (const E& object) {
    check(object);
  } catch (...) {
    FAIL("arrived as another type");
  }
}

template <class E>
void arrives_as_itself(const E& thrown) {
  arrives<E>(send([&] { throw thrown; }), [&](const E& e) {
    CHECK(std::string(e.what()) == thrown.what());
    REQUIRE(mp::remote_of(e) != nullptr);
    CHECK(mp::remote_of(e)->what == thrown.what());
    CHECK(mp::remote_of(e)->pid == ::getpid());
  });
}

}  // namespace

TEST_CASE("every standard exception arrives as its own type, with its text") {
  arrives_as_itself(std::logic_error("a"));
  arrives_as_itself(std::domain_error("b"));
  arrives_as_itself(std::invalid_argument("c"));
  arrives_as_itself(std::length_error("d"));
  arrives_as_itself(std::out_of_range("e"));
  arrives_as_itself(std::runtime_error(""));
  arrives_as_itself(std::range_error("f"));
  arrives_as_itself(std::overflow_error("g"));
  arrives_as_itself(std::underflow_error("h"));
  arrives_as_itself(std::exception());
  arrives_as_itself(std::bad_exception());
  arrives_as_itself(std::bad_alloc());
  arrives_as_itself(std::bad_array_new_length());
  arrives_as_itself(std::bad_cast());
  arrives_as_itself(std::bad_typeid());
  arrives_as_itself(std::bad_optional_access());
  arrives_as_itself(std::bad_variant_access());
  arrives_as_itself(std::bad_any_cast());
  arrives_as_itself(std::bad_weak_ptr());
  arrives_as_itself(std::bad_function_call());
  arrives_as_itself(std::future_error(std::future_errc::broken_promise));
  arrives_as_itself(std::regex_error(std::regex_constants::error_paren));
  arrives_as_itself(std::ios_base::failure("io", std::make_error_code(std::errc::io_error)));
  arrives_as_itself(std::system_error(ENOENT, std::generic_category(), "open"));
  arrives_as_itself(
      std::filesystem::filesystem_error("fs", "/one", "/two", std::make_error_code(std::errc::file_exists)));
}

TEST_CASE("codes and paths arrive with the exceptions that carry them") {
  arrives<std::system_error>(send([] { throw std::system_error(ENOENT, std::system_category()); }),
                             [](const auto& e) { CHECK(e.code() == std::error_code(ENOENT, std::system_category())); });
  arrives<std::filesystem::filesystem_error>(
      send([] { throw std::filesystem::filesystem_error("x", "/one", "/two", {}); }), [](const auto& e) {
        CHECK(e.path1() == "/one");
        CHECK(e.path2() == "/two");
      });
  arrives<std::regex_error>(send([] { std::regex broken("("); }),
                            [](const auto& e) { CHECK(e.code() == std::regex_constants::error_paren); });
}

TEST_CASE("the library's own errors arrive as themselves") {
  arrives_as_itself(mp::Error("e"));
  arrives_as_itself(mp::ValueError("v"));
  arrives_as_itself(mp::TimeoutError("t"));
  arrives_as_itself(mp::Empty());
  arrives_as_itself(mp::Full());
  arrives_as_itself(mp::ShutDown());
  arrives_as_itself(mp::BrokenBarrierError());
  arrives_as_itself(mp::PicklingError("p"));
  arrives_as_itself(mp::CancelledError());
  arrives_as_itself(mp::BrokenProcessPool("b"));
  arrives_as_itself(mp::OwnerDied("o"));
  arrives_as_itself(mp::BrokenPipeError(EPIPE, "write"));
  arrives<mp::OSError>(send([] { throw mp::OSError(ENOSPC, "write", "file"); }), [](const auto& e) {
    CHECK(e.code() == std::errc::no_space_on_device);
    CHECK(std::string(e.what()) == "write file: No space left on device");
  });
  arrives<mp::BufferTooShort>(send([] { throw mp::BufferTooShort("abc"); }),
                              [](const auto& e) { CHECK(e.message() == "abc"); });
  arrives<mp::SharedMemoryFull>(send([] { throw mp::SharedMemoryFull(3, 2, 1); }),
                                [](const auto& e) { CHECK(e.asked() == 3); });
}

TEST_CASE("a registered exception arrives as its own type, an unregistered one as RemoteError") {
  arrives<bad::Scene>(send([] { throw bad::Scene("a.obj"); }),
                      [](const auto& e) { CHECK(std::string(e.what()) == "bad scene a.obj"); });
  arrives<bad::Number>(send([] { throw bad::Number(7); }), [](const auto& e) { CHECK(e.n() == 7); });
  arrives<bad::Plain>(send([] { throw bad::Plain{"p"}; }), [](const auto& e) { CHECK(e.text == "p"); });
  arrives<mp::RemoteError>(send([] { throw bad::Unknown("u"); }), [](const auto& e) {
    CHECK(e.type() == "bad::Unknown");
    CHECK(std::string(e.what()) == "bad::Unknown: u");
  });
  CHECK(mp::remote_of(send([] { throw bad::Number(7); }))->type == "bad::Number");
}

TEST_CASE("nothing that an exception does breaks its journey") {
  arrives<mp::RemoteError>(send([] { throw 42; }), [](const auto& e) { CHECK(std::string(e.what()) == "int: 42"); });
  arrives<mp::RemoteError>(send([] { throw "text"; }), [](const auto& e) { CHECK(e.details().what == "text"); });
  arrives<mp::RemoteError>(send([] { throw std::string("string"); }),
                           [](const auto& e) { CHECK(e.details().what == "string"); });
  arrives<mp::RemoteError>(send([] { throw bad::Mute(); }),
                           [](const auto& e) { CHECK(std::string(e.what()) == "bad::Mute"); });
  arrives<mp::RemoteError>(send([] { throw bad::Stubborn(1); }),
                           [](const auto& e) { CHECK(e.details().what == "stubborn"); });
  arrives<mp::RemoteError>(send([] { throw bad::Uncopyable(); }),
                           [](const auto& e) { CHECK(e.type() == "bad::Uncopyable"); });
  arrives<mp::RemoteError>(send([] { throw std::function<void()>(); }),
                           [](const auto& e) { CHECK(e.type().starts_with("std::function")); });
  arrives<std::runtime_error>(send([] { throw std::runtime_error(std::string(10'000'000, 'x')); }),
                              [](const auto& e) { CHECK(std::string(e.what()).size() == 64 * 1024); });
  Writer w;
  dump_exception(w, nullptr);
  Reader r(w.bytes());
  arrives<std::bad_exception>(load_exception(r), [](const auto&) {});
}

TEST_CASE("nested exceptions arrive as texts, the outer one as its type") {
  const auto e = send([] {
    try {
      try {
        throw bad::Unknown("innermost");
      } catch (...) {
        std::throw_with_nested(std::logic_error("inner"));
      }
    } catch (...) {
      std::throw_with_nested(bad::Scene("outer"));
    }
  });
  arrives<bad::Scene>(e, [](const bad::Scene& scene) {
    const auto* details = mp::remote_of(scene);
    REQUIRE(details->nested.size() == 2);
    CHECK(details->nested[0] == "std::_Nested_exception<std::logic_error>: inner");
    CHECK(details->nested[1] == "bad::Unknown: innermost");
  });
}

TEST_CASE("the stack is that of the throw, not of the catch") {
  const auto e = send([] { bad::throw_deep_inside(5); });
  const std::string& stack = mp::remote_of(e)->stack_text();
  INFO(stack);
  CHECK(stack.starts_with("#0 bad::throw_deep_inside(int)"));
  CHECK(stack.find("__cxa_throw") == std::string::npos);
  CHECK(stack.find("mp::os::") == std::string::npos);
  CHECK(stack.find("doctest") == std::string::npos);
}

TEST_CASE("an exception that a task catches itself leaves no stack behind") {
  mp::os::call_watched([] {
    try {
      bad::throw_deep_inside(1);
    } catch (const std::exception&) {}
  });
  CHECK(mp::os::thrown_stack().frames.empty());
}

TEST_CASE("worker, process and task are told") {
  const auto e =
      send([] { throw bad::Unknown("u"); }, {.worker = "worker 2", .pid = 4711, .task = 7, .task_name = "tile 7"});
  const mp::RemoteDetails& details = *mp::remote_of(e);
  CHECK(details.worker == "worker 2");
  CHECK(details.pid == ::getpid());  // as the thrower said
  CHECK(details.task == 7);
  CHECK(details.report().find("in task 7 \"tile 7\"") != std::string::npos);
  CHECK(details.report().find("in process worker 2") != std::string::npos);
}

TEST_CASE("an exception that came from elsewhere goes on as what it was") {
  const auto first = send([] { throw bad::Scene("far"); }, {.worker = "far worker"});
  const auto second = send([&] { std::rethrow_exception(first); }, {.worker = "near worker"});
  arrives<bad::Scene>(second, [](const auto& e) {
    CHECK(mp::remote_of(e)->worker == "far worker");
    CHECK(mp::remote_of(e)->type == "bad::Scene");
  });
  const auto unknown = send([&] { std::rethrow_exception(send([] { throw bad::Unknown("u"); })); });
  arrives<mp::RemoteError>(unknown, [](const auto& e) { CHECK(std::string(e.what()) == "bad::Unknown: u"); });
}

TEST_CASE("an exception held in a value is sent with it") {
  using Held = std::pair<int, std::exception_ptr>;
  const auto held = loads<Held>(dumps(Held(1, std::make_exception_ptr(bad::Scene("x")))));
  arrives<bad::Scene>(held.second, [](const auto& e) { CHECK(std::string(e.what()) == "bad scene x"); });
}

TEST_CASE("a crash says task, function, worker, signal, address and stack") {
  mp::CrashDetails crash;
  crash.signal = SIGSEGV;
  crash.code = SEGV_MAPERR;
  crash.address = 0x10;
  crash.task = 7;
  crash.task_name = "tile 7";
  crash.function = "render_tile(int)";
  crash.worker = "worker 2";
  crash.pid = 4711;
  void* here[8];
  crash.stack = mp::os::locate_stack(here, mp::os::capture(here, 8));
  const mp::WorkerCrashed e(crash);
  const std::string text = e.what();
  CHECK(text.starts_with(
      "task 7 \"tile 7\" render_tile(int) crashed worker 2 (pid 4711): SIGSEGV, address 0x10 not mapped\n  #0 "));
  arrives<mp::WorkerCrashed>(send([&] { throw e; }), [](const auto& far) {
    CHECK(far.signal() == SIGSEGV);
    CHECK(far.task() == 7);
    CHECK(std::string(far.what()).find("\n  #0 ") != std::string::npos);
    CHECK(std::string(far.what()).starts_with("task 7 \"tile 7\" render_tile(int) crashed worker 2"));
  });

  mp::CrashDetails exited;
  exited.exit_status = 3;
  exited.pid = 5;
  CHECK(std::string(mp::WorkerCrashed(exited).what()) == "a task crashed its worker (pid 5): exited with status 3");
  CHECK(mp::crash_cause({.signal = SIGKILL}) == "SIGKILL");
  CHECK(mp::crash_cause({.signal = SIGFPE, .code = FPE_INTDIV}) == "SIGFPE, integer division by zero");
}
