// Runs the tests in a child and looks at what remains when it has ended, which no process can do for itself.
//
//   supervisor (subreaper) --fork--> doctest --> processes that the tests start
//        ^------------- orphans come here instead of going to init
//
// The supervisor has no thread and the tests' process none but its own, so forking in a test is what it is in a program.
// It checks, within the second that the library promises: no process left alive; no new name in /dev/shm. If the tests
// take longer than MP_TEST_TIMEOUT seconds (set by Meson) less a little, it prints the stacks of all processes first.
#pragma once

#include <functional>

namespace test {

// The exit status for main: that of `tests`, or 1 if it left something, was killed or took too long. Fork-safe: call it
// before the first thread.
int supervise(const std::function<int()>& tests);

}  // namespace test
