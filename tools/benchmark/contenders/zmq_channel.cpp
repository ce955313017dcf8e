// ZeroMQ over ipc://, each side with a context of its own. The two ends of a PUSH choose among several by their queues, so
// with two consumers they count together.
#include <zmq.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "beside.hpp"
#include "channel_work.hpp"

namespace bench {
namespace {

using namespace std::chrono_literals;

class Socket {
 public:
  explicit Socket(int type) : context_(::zmq_ctx_new()), socket_(::zmq_socket(context_, type)) {}
  ~Socket() {
    ::zmq_close(socket_);
    ::zmq_ctx_term(context_);
  }
  Socket(const Socket&) = delete;
  void bind(const std::string& address) { check(::zmq_bind(socket_, address.c_str())); }
  void connect(const std::string& address) { check(::zmq_connect(socket_, address.c_str())); }
  template <class T>
  void put(const T& item) {
    check(::zmq_send(socket_, &item, sizeof(T), 0));
  }
  template <class T>
  T get() {
    T item;
    check(::zmq_recv(socket_, &item, sizeof(T), 0));
    return item;
  }

 private:
  static void check(int result) {
    if (result < 0) throw std::runtime_error(::zmq_strerror(::zmq_errno()));
  }
  void* context_;
  void* socket_;
};

// In the abstract namespace: no file is left.
std::string address(unsigned n) {
  static const auto own = std::to_string(::getpid());
  return "ipc://@mp-bench-" + own + "-" + std::to_string(n);
}

struct State {
  std::atomic<unsigned> ready{0};
  std::atomic<bool> go{false};
  alignas(64) std::atomic<std::size_t> taken{0};
};

template <class T>
void through(std::size_t count, unsigned pairs) {
  address(0);  // this process's
  State* state = shared<State>();
  std::vector<std::unique_ptr<Beside>> producers, consumers;
  for (unsigned i = 0; i < pairs; ++i) {
    producers.push_back(std::make_unique<Beside>([=] {
      Socket socket(ZMQ_PUSH);
      socket.bind(address(i));
      ++state->ready;
      while (!state->go) std::this_thread::sleep_for(100us);
      for (std::size_t n = 0; n < count / pairs; ++n) {
        socket.put(T{});
        near_side(n);
      }
      while (state->taken < count / pairs * pairs) std::this_thread::sleep_for(1ms);
    }));
  }
  while (state->ready < pairs) std::this_thread::sleep_for(1ms);
  for (unsigned i = 0; i < pairs; ++i) {
    consumers.push_back(std::make_unique<Beside>([=] {
      Socket socket(ZMQ_PULL);
      for (unsigned n = 0; n < pairs; ++n) socket.connect(address(n));
      ++state->ready;
      for (std::size_t n = 0;; ++n) {
        keep(socket.get<T>());
        far_side(n);
        state->taken.fetch_add(1, std::memory_order_relaxed);
      }
    }));
  }
  while (state->ready < 2 * pairs) std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(50ms);  // connections come to be in the background
  time_per(count, [&] {
    state->go = true;
    while (state->taken < count / pairs * pairs) std::this_thread::sleep_for(100us);
  });
  for (auto& consumer : consumers) consumer->kill();
}
void one_to_one() { through<long>(size(300'000, 1000), 1); }
void two_to_two() { through<long>(size(300'000, 1000), 2); }
void kib() { through<Kib>(size(100'000, 500), 1); }

void round_trip(std::size_t count, std::chrono::microseconds gap) {
  address(0);
  Beside other([=] {
    Socket socket(ZMQ_PAIR);
    socket.bind(address(0));
    for (long word; (word = socket.get<long>()) != kEnd;) socket.put(echo_of(word));
  });
  Socket socket(ZMQ_PAIR);
  socket.connect(address(0));
  time_echo(count, gap, [&](long word) {
    socket.put(word);
    return socket.get<long>();
  });
  socket.put(kEnd);
}
void awake() { round_trip(size(3000, 100), 0us); }
void parked() { round_trip(size(600, 10), 1000us); }

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using namespace bench;
  return contend(argc, argv,
                 {{{"queue-1to1", one_to_one},
                   {"queue-2to2", two_to_two},
                   {"queue-kib", kib},
                   {"pipe-awake", awake},
                   {"pipe-parked", parked}}});
}
