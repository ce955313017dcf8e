// What the kernel brings: pipes, and Unix sockets that keep messages apart. One write and one read a message.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <system_error>
#include <thread>
#include <vector>

#include "beside.hpp"
#include "channel_work.hpp"

namespace bench {
namespace {

using namespace std::chrono_literals;

struct Ends {
  int in, out;  // what is written to `in` comes out of `out`
};

void check(bool good) {
  if (!good) throw std::system_error(errno, std::generic_category());
}
Ends pipe_ends() {
  int fds[2];
  check(::pipe(fds) == 0);
  return {fds[1], fds[0]};
}
Ends socket_ends() {
  int fds[2];
  check(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) == 0);
  return {fds[0], fds[1]};
}

template <class T>
void put(int fd, const T& item) {
  check(::write(fd, &item, sizeof(T)) == static_cast<ssize_t>(sizeof(T)));
}
// A pipe may hand a message out in pieces, but only to a reader who asks for more than is there: with small messages of one
// size and one call each, several readers do not get in each other's way.
template <class T>
T get(int fd) {
  T item;
  std::size_t got = 0;
  while (got < sizeof(T)) {
    ssize_t n = ::read(fd, reinterpret_cast<char*>(&item) + got, sizeof(T) - got);
    check(n > 0);
    got += static_cast<std::size_t>(n);
  }
  return item;
}

template <class T>
void through(Ends ends, std::size_t count, unsigned pairs) {
  Ends go = pipe_ends(), done = pipe_ends();
  std::vector<std::unique_ptr<Beside>> team;
  for (unsigned i = 0; i < pairs; ++i) {
    team.push_back(std::make_unique<Beside>([=] {
      get<char>(go.out);
      for (std::size_t n = 0; n < count / pairs; ++n) {
        put(ends.in, T{});
        near_side(n);
      }
    }));
    team.push_back(std::make_unique<Beside>([=] {
      get<char>(go.out);
      for (std::size_t n = 0; n < count / pairs; ++n) {
        keep(get<T>(ends.out));
        far_side(n);
      }
      put(done.in, 'd');
    }));
  }
  time_per(count, [&] {
    for (unsigned i = 0; i < 2 * pairs; ++i) put(go.in, 'g');
    for (unsigned i = 0; i < pairs; ++i) get<char>(done.out);
  });
}

void round_trip(Ends there, Ends back, std::size_t count, std::chrono::microseconds gap) {
  Beside other([=] {
    for (long word; (word = get<long>(there.out)) != kEnd;) put(back.in, echo_of(word));
  });
  time_echo(count, gap, [&](long word) {
    put(there.in, word);
    return get<long>(back.out);
  });
  put(there.in, kEnd);
}

template <Ends make()>
std::vector<Entry> entries(const char* one, const char* two, const char* kib, const char* awake, const char* parked) {
  return {{one, [] { through<long>(make(), size(300'000, 1000), 1); }},
          {two, [] { through<long>(make(), size(300'000, 1000), 2); }},
          {kib, [] { through<Kib>(make(), size(100'000, 500), 1); }},
          {awake, [] { round_trip(make(), make(), size(5000, 100), 0us); }},
          {parked, [] { round_trip(make(), make(), size(600, 10), 1000us); }}};
}

// A large block to another process and as large a one back: what a task costs that sends its data as bytes.
void block() {
  std::size_t bytes = size(std::size_t{1} << 30, 1 << 20);
  constexpr std::size_t kPiece = 1 << 20;
  Ends there = pipe_ends(), back = pipe_ends();
  auto move_all = [&](int fd, char* at, bool writing) {
    for (std::size_t done = 0; done < bytes;) {
      std::size_t piece = std::min(kPiece, bytes - done);
      ssize_t n = writing ? ::write(fd, at + done, piece) : ::read(fd, at + done, piece);
      check(n > 0);
      done += static_cast<std::size_t>(n);
    }
  };
  std::vector<char> mine(bytes, 'm'), other(bytes, 'o');
  Beside worker([&] {
    move_all(there.out, other.data(), false);
    move_all(back.in, other.data(), true);
  });
  time_per(1000, [&] {  // in microseconds
    move_all(there.in, mine.data(), true);
    move_all(back.out, mine.data(), false);
  });
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using namespace bench;
  return contend(argc, argv,
                 {entries<pipe_ends>("pipe-1to1", "pipe-2to2", "pipe-kib", "pipe-awake", "pipe-parked"),
                  entries<socket_ends>("socket-1to1", "socket-2to2", "socket-kib", "socket-awake", "socket-parked"),
                  {{"block", block}}});
}
