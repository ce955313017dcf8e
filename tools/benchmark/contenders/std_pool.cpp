// std::async, and the pool of threads that textbooks show: packaged tasks in a deque under a mutex.
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "contender.hpp"
#include "pool_work.hpp"

namespace bench {
namespace {

using namespace std::chrono_literals;

class TextbookPool {
 public:
  explicit TextbookPool(unsigned workers) {
    while (workers--) threads_.emplace_back([this] { work(); });
  }
  ~TextbookPool() {
    {
      std::lock_guard guard(mutex_);
      ends_ = true;
    }
    posted_.notify_all();
    for (auto& thread : threads_) thread.join();
  }
  template <class F, class... Args>
  auto submit(F f, Args... args) {
    std::packaged_task<decltype(f(args...))()> task([=] { return f(args...); });
    auto future = task.get_future();
    {
      std::lock_guard guard(mutex_);
      tasks_.emplace_back(std::move(task));
    }
    posted_.notify_one();
    return future;
  }

 private:
  void work() {
    for (;;) {
      std::unique_lock guard(mutex_);
      posted_.wait(guard, [this] { return ends_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      auto task = std::move(tasks_.front());
      tasks_.pop_front();
      guard.unlock();
      task();
    }
  }
  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<std::packaged_task<void()>> tasks_;
  bool ends_ = false;
  std::vector<std::thread> threads_;
};

template <class Submit>
void time_round_trips(std::size_t count, std::chrono::microseconds gap, Submit&& submit) {
  auto once = [&] { keep(submit(next, 1L).get()); };
  for (int i = 0; i < 50; ++i) once();
  time_each(count, gap, once);
  note_cores([&] { return submit(cpu).get(); });
}

void textbook_stream() {
  time_then_count([](auto measure) {
    TextbookPool pool(kWorkers);
    measure_stream(measure, size(100'000, 2000), [&](long n) { return pool.submit(next_in_stream, n); });
  });
}
void textbook_awake() {
  TextbookPool pool(kWorkers);
  time_round_trips(size(5000, 100), 0us, [&](auto... call) { return pool.submit(call...); });
}
void textbook_parked() {
  TextbookPool pool(kWorkers);
  time_round_trips(size(600, 10), 1000us, [&](auto... call) { return pool.submit(call...); });
}

constexpr auto async = [](auto... call) { return std::async(std::launch::async, call...); };
void async_stream() {
  time_then_count([](auto measure) {
    measure_stream(measure, size(10'000, 1500), [](long n) { return async(next_in_stream, n); });
  });
}
void async_awake() { time_round_trips(size(3000, 100), 0us, async); }
void async_parked() { time_round_trips(size(600, 10), 1000us, async); }

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using namespace bench;
  return contend(argc, argv,
                 {{{"textbook-stream", textbook_stream},
                   {"textbook-awake", textbook_awake},
                   {"textbook-parked", textbook_parked},
                   {"async-stream", async_stream},
                   {"async-awake", async_awake},
                   {"async-parked", async_parked}}});
}
