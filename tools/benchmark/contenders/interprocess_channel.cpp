// Boost.Interprocess message_queue: a ring of fixed slots in named shared memory, under one mutex.
#include <boost/interprocess/ipc/message_queue.hpp>
#include <memory>
#include <string>
#include <vector>

#include "beside.hpp"
#include "channel_work.hpp"

namespace bench {
namespace {

using namespace std::chrono_literals;
namespace ipc = boost::interprocess;

class Named {
 public:
  explicit Named(const char* use, std::size_t slots, std::size_t bytes)
      : name_("mp-bench-" + std::string(use) + std::to_string(::getpid())),
        queue_(ipc::create_only, name_.c_str(), slots, bytes) {
    ipc::message_queue::remove(name_.c_str());  // children have it mapped
  }
  template <class T>
  void put(const T& item) {
    queue_.send(&item, sizeof(T), 0);
  }
  template <class T>
  T get() {
    T item;
    std::size_t got;
    unsigned priority;
    queue_.receive(&item, sizeof(T), got, priority);
    return item;
  }

 private:
  std::string name_;
  ipc::message_queue queue_;
};

template <class T>
void through(std::size_t count, unsigned pairs) {
  Named queue("q", 1024, sizeof(T)), go("g", 16, 1), done("d", 16, 1);
  std::vector<std::unique_ptr<Beside>> team;
  for (unsigned i = 0; i < pairs; ++i) {
    team.push_back(std::make_unique<Beside>([&] {
      go.get<char>();
      for (std::size_t n = 0; n < count / pairs; ++n) {
        queue.put(T{});
        near_side(n);
      }
    }));
    team.push_back(std::make_unique<Beside>([&] {
      go.get<char>();
      for (std::size_t n = 0; n < count / pairs; ++n) {
        keep(queue.get<T>());
        far_side(n);
      }
      done.put('d');
    }));
  }
  time_per(count, [&] {
    for (unsigned i = 0; i < 2 * pairs; ++i) go.put('g');
    for (unsigned i = 0; i < pairs; ++i) done.get<char>();
  });
}
void one_to_one() { through<long>(size(100'000, 1000), 1); }
void two_to_two() { through<long>(size(100'000, 1000), 2); }
void kib() { through<Kib>(size(50'000, 500), 1); }

void round_trip(std::size_t count, std::chrono::microseconds gap) {
  Named there("t", 16, sizeof(long)), back("b", 16, sizeof(long));
  Beside other([&] {
    for (long word; (word = there.get<long>()) != kEnd;) back.put(echo_of(word));
  });
  time_echo(count, gap, [&](long word) {
    there.put(word);
    return back.get<long>();
  });
  there.put(kEnd);
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
