// Where tasks of a test wait until the test lets them go on: a pipe, so that the same body serves threads and forked workers
// (make the gate before the pool). Copies name the same gate; it is plain data, a lambda may capture it.
#pragma once

#include <unistd.h>

#include <cstdlib>

namespace test {

struct Gate {
  int out = -1, in = -1;
  void pass() const {  // in a task
    char c;
    while (::read(out, &c, 1) < 0) {}
  }
  void let(int tasks) const {
    for (; tasks > 0; --tasks)
      if (::write(in, "x", 1) != 1) std::abort();
  }
};

struct OwnGate : Gate {
  OwnGate() {
    int ends[2];
    if (::pipe(ends) != 0) std::abort();
    out = ends[0];
    in = ends[1];
  }
  OwnGate(const OwnGate&) = delete;
  ~OwnGate() {
    ::close(in);  // whoever still waits goes on
    ::close(out);
  }
  Gate gate() const { return *this; }
};

}  // namespace test
