// Boost.Asio's thread_pool, with the futures of its own use_future.
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>

#include "contender.hpp"
#include "pool_work.hpp"

namespace bench {
namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;

template <class Task>
auto submit_to(asio::thread_pool& pool, Task task) {
  return asio::post(pool, asio::use_future(task));
}

void stream() {
  time_then_count([](auto measure) {
    asio::thread_pool pool(kWorkers);
    measure_stream(measure, size(100'000, 2000),
                   [&](long n) { return submit_to(pool, [n] { return next_in_stream(n); }); });
  });
}

void round_trip(std::size_t count, std::chrono::microseconds gap) {
  asio::thread_pool pool(kWorkers);
  auto once = [&] { keep(submit_to(pool, [] { return next(1); }).get()); };
  for (int i = 0; i < 100; ++i) once();
  time_each(count, gap, once);
  note_cores([&] { return submit_to(pool, cpu).get(); });
}
void awake() { round_trip(size(5000, 100), 0us); }
void parked() { round_trip(size(600, 10), 1000us); }

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using namespace bench;
  return contend(argc, argv, {{{"stream", stream}, {"awake", awake}, {"parked", parked}}});
}
