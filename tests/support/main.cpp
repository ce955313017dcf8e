// The main of every test program: doctest under a supervisor that checks what the tests leave behind (README.md,
// "Hygiene"). MP_TEST_ALONE=1 runs doctest without it, for a debugger.
#define DOCTEST_CONFIG_IMPLEMENT
// Fork children would inherit doctest's handlers, and report a failed test when they are terminated.
#define DOCTEST_CONFIG_NO_POSIX_SIGNALS
#include <doctest/doctest.h>

#include <cstdlib>
#include <iostream>

#include "descriptors.hpp"
#include "supervisor.hpp"

// Tests of the lower rooms are linked without these; where they are linked, they are called.
namespace mp {
[[gnu::weak]] void freeze_support();
}
namespace mp::memory {
[[gnu::weak]] void start();
}
namespace mp::os {
[[gnu::weak]] int tether_end();
}
namespace mp::process {
[[gnu::weak]] void stop_forkserver() noexcept;
}

namespace {

// What the library makes once and keeps until the program ends: the arena and the tether.
void warm_up() {
  if (mp::memory::start != nullptr) mp::memory::start();
  if (mp::os::tether_end != nullptr) mp::os::tether_end();
}

int run_tests(int argc, char** argv) {
  doctest::Context context(argc, argv);
  warm_up();
  const auto before = test::open_descriptors();
  int result = context.run();
  if (context.shouldExit()) return result;
  if (mp::process::stop_forkserver != nullptr) mp::process::stop_forkserver();  // it ends with the program otherwise
  for (const auto& [fd, target] : test::open_descriptors()) {
    if (before.contains(fd)) continue;
    std::cerr << "hygiene: descriptor " << fd << " was left open: " << target << '\n';
    result = 1;
  }
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  if (mp::freeze_support != nullptr) mp::freeze_support();
  if (std::getenv("MP_TEST_ALONE") != nullptr) return run_tests(argc, argv);
  return test::supervise([&] { return run_tests(argc, argv); });
}
