// oneTBB. It has no futures: a task_group runs packaged tasks where one is asked for, which is how its users get them.
// Of its threads the caller is one, so kWorkers + 1 where ours has kWorkers beside the caller; parallel_for and prime use as
// many as there are CPUs.
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>
#include <algorithm>

#include <future>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "contender.hpp"
#include "pool_work.hpp"

namespace bench {
namespace {

using namespace std::chrono_literals;

class FuturesOnTbb {
 public:
  explicit FuturesOnTbb(unsigned workers)
      : control_(tbb::global_control::max_allowed_parallelism, workers + 1),
        arena_(static_cast<int>(workers), 0) {}
  template <class F>
  std::future<std::invoke_result_t<F>> submit(F f) {
    auto task = std::make_shared<std::packaged_task<std::invoke_result_t<F>()>>(std::move(f));
    auto future = task->get_future();
    arena_.enqueue([task] { (*task)(); });
    return future;
  }

 private:
  tbb::global_control control_;
  tbb::task_arena arena_;
};

void stream() {
  time_then_count([](auto measure) {
    FuturesOnTbb pool(kWorkers);
    measure_stream(measure, size(100'000, 2000),
                   [&](long n) { return pool.submit([n] { return next_in_stream(n); }); });
  });
}

void round_trip(std::size_t count, std::chrono::microseconds gap) {
  FuturesOnTbb pool(kWorkers);
  auto once = [&] { keep(pool.submit([] { return next(1); }).get()); };
  for (int i = 0; i < 100; ++i) once();
  time_each(count, gap, once);
  note_cores([&] { return pool.submit(cpu).get(); });
}
void awake() { round_trip(size(5000, 100), 0us); }
void parked() { round_trip(size(600, 10), 1000us); }

// `copied`: as who must have his input elsewhere, in memory that others see, say.
void map_of_ints(bool copied) {
  tbb::global_control control(tbb::global_control::max_allowed_parallelism, kWorkers);
  std::size_t count = size(1'000'000, 2000);
  const auto given = counting_up(count);
  auto numbers = given;
  time_map(count, [&] {
    if (copied) std::ranges::copy(given, numbers.begin());
    std::vector<long> out(count);
    tbb::parallel_for(tbb::blocked_range<std::size_t>(0, count), [&](const auto& range) {
      for (std::size_t i = range.begin(); i != range.end(); ++i) out[i] = next(numbers[i]);
    });
    check_sum(out, count);
  });
}

void map_ints() { map_of_ints(false); }
void map_ints_copied() { map_of_ints(true); }

void prime() {
  tbb::global_control control(tbb::global_control::max_allowed_parallelism, kWorkers);
  tbb::parallel_for(0, 1000, [&](int) {});
  time_primes(1, [](const auto& numbers) {
    std::vector<char> out(numbers.size());
    tbb::parallel_for(std::size_t{0}, numbers.size(), [&](std::size_t i) { out[i] = is_prime(numbers[i]); });
    return std::ranges::count(out, 1);
  });
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using namespace bench;
  return contend(argc, argv,
                 {{{"stream", stream},
                   {"awake", awake},
                   {"parked", parked},
                   {"map-ints", map_ints},
                   {"map-ints-copied", map_ints_copied},
                   {"prime", prime}}});
}
