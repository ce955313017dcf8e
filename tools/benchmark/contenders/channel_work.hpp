// What all channels do: the messages, and the sizes of the runs.
#pragma once

#include <cstring>

#include "contender.hpp"

namespace bench {

// A message of 1 KiB.
struct Kib {
  char bytes[1024];
};

// Words of the echoing side of a round trip.
inline constexpr long kEnd = -1, kWhere = -2;

inline long echo_of(long word) { return word == kWhere ? cpu() : word; }

// once(word) sends a word and returns what came back.
template <class Once>
void time_echo(std::size_t count, std::chrono::microseconds gap, Once&& once) {
  for (long i = 0; i < 100; ++i) keep(once(i));
  long i = 0;
  time_each(count, gap, [&] {
    ++i;
    if (once(i) != i) note("WRONG ECHO");
  });
  note_cores([&] { return static_cast<int>(once(kWhere)); });
}

}  // namespace bench
