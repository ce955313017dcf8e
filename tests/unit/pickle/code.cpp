// Addresses of functions between processes: in a copy of this program that was executed afresh (other load addresses), and in a library
// that is loaded late. CODE_LIBRARY is its path.
#include "mp/pickle/code.hpp"

#include <doctest/doctest.h>

#include <dlfcn.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "mp/errors.hpp"
#include "mp/pickle/callable.hpp"

using namespace mp::pickle;

namespace {

using Function = int (*)(int);
using Text = const char* (*)();

int triple(int n) { return 3 * n; }

// As the parent writes them and the child reads them.
auto lambda = [](int n) { return 3 * n + 1; };
auto closure_of(Function f, std::string text) {
  return [f, text, one = 1, literal = "literal"](int n) {
    return f(n) + one + (text == "short" && literal == std::string("literal") ? 0 : 1000);
  };
}

std::string to_hex(const Writer& w) {
  std::string hex;
  for (std::byte b : w.bytes()) {
    hex += "0123456789abcdef"[static_cast<unsigned>(b) >> 4];
    hex += "0123456789abcdef"[static_cast<unsigned>(b) & 15];
  }
  return hex;
}

// In the copy: reads the callables from the environment and ends with what they agree on, before any test begins.
const bool is_copy = [] {
  const char* hex = std::getenv("MP_CODE_TEST");
  if (hex == nullptr) return false;
  std::vector<std::byte> bytes;
  for (const char* p = hex; p[0] != 0 && p[1] != 0; p += 2)
    bytes.push_back(static_cast<std::byte>(std::stoi(std::string(p, 2), nullptr, 16)));
  void* library = ::dlopen(CODE_LIBRARY, RTLD_NOW);
  try {
    Reader r(bytes);
    const auto function = load_callable<Function>(r);
    const auto from_library = load_callable<Function>(r);
    const auto closure = load_callable<decltype(closure_of(triple, ""))>(r);
    const auto own = load_callable<decltype(lambda)>(r);
    const bool right =
        function(5) == 15 && from_library(5) == 105 && closure(5) == 16 && own(5) == 16 && library != nullptr;
    ::_exit(right ? 77 : 1);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    ::_exit(2);
  }
}();

// Opened once; closing it at the end of each test unloads it.
struct Library {
  Library() : handle(::dlopen(CODE_LIBRARY, RTLD_NOW)) { REQUIRE_MESSAGE(handle != nullptr, ::dlerror()); }
  ~Library() {
    if (handle != nullptr) ::dlclose(handle);
  }
  template <class F>
  F find(const char* name) const {
    return reinterpret_cast<F>(::dlsym(handle, name));
  }
  void* handle;
};

}  // namespace

TEST_CASE("functions, closures and a library's functions mean the same in a program executed afresh") {
  REQUIRE_FALSE(is_copy);
  const Library library;
  Writer w;
  dump_callable(w, &triple);
  dump_callable(w, library.find<Function>("library_function"));
  dump_callable(w, closure_of(triple, "short"));
  dump_callable(w, lambda);
  const std::string setting = "MP_CODE_TEST=" + to_hex(w);
  std::string name = "copy";
  std::array<char*, 2> arguments{name.data(), nullptr};
  std::vector<char*> environment;
  for (char** e = environ; *e != nullptr; ++e) environment.push_back(*e);
  environment.push_back(const_cast<char*>(setting.c_str()));
  environment.push_back(nullptr);
  pid_t pid = 0;
  REQUIRE(::posix_spawn(&pid, "/proc/self/exe", nullptr, nullptr, arguments.data(), environment.data()) == 0);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 77);
}

TEST_CASE("a library that is loaded later is found, and missed when it is gone") {
  CodeRef ref;
  const void* address = nullptr;
  {
    const Library library;
    const auto f = library.find<Function>("library_function");
    ref = code_ref(f);
    address = reinterpret_cast<const void*>(f);
    CHECK(code_address(ref) == address);
    CHECK(ref.module != code_ref(&triple).module);
  }
  void* still = ::dlopen(CODE_LIBRARY, RTLD_NOW | RTLD_NOLOAD);
  REQUIRE(still == nullptr);
  CHECK_THROWS_WITH_AS(code_address(ref), doctest::Contains("not loaded here"), mp::UnpicklingError);
  CHECK_THROWS_AS(code_ref(address), mp::PicklingError);
  const Library again;
  CHECK(code_as<Function>(ref)(1) == 101);
}

TEST_CASE("functions of the C library and this program are told apart and found again") {
  const auto c = reinterpret_cast<const void*>(&std::abort);
  CHECK(code_address(code_ref(c)) == c);
  const auto own = reinterpret_cast<const void*>(&triple);
  CHECK(code_address(code_ref(own)) == own);
  CHECK(code_ref(own).module != 0);
}

TEST_CASE("a captured text of a library is refused where that is not loaded") {
  Writer w;
  const auto make = [](const char* t) { return [t] { return t[0]; }; };
  using G = decltype(make(nullptr));
  {
    const Library library;
    dump_callable(w, make(library.find<Text>("library_text")()));
    Reader r(w.bytes());
    CHECK(load_callable<G>(r)() == 't');
  }
  Reader r(w.bytes());
  CHECK_THROWS_AS(load_callable<G>(r), mp::UnpicklingError);
}
