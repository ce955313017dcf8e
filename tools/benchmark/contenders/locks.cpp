// Uncontended locks and counters, by Google Benchmark: ours, the standard library's, POSIX's for processes, Boost's; and
// what any of them needs at least, one atomic exchange and one store.
#include <benchmark/benchmark.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <mp/mp.hpp>

#if __has_include(<boost/interprocess/sync/interprocess_mutex.hpp>)
#include <boost/interprocess/sync/interprocess_mutex.hpp>
#endif

#include "beside.hpp"
#include "contender.hpp"

namespace bench {
namespace {

// A pthread mutex for processes that survives its owner.
class RobustMutex {
 public:
  RobustMutex() : mutex_(shared<pthread_mutex_t>()) {
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(mutex_, &kind);
  }
  void lock() { pthread_mutex_lock(mutex_); }
  void unlock() { pthread_mutex_unlock(mutex_); }

 private:
  pthread_mutex_t* mutex_;
};

// Not a lock that one could use: it does not know what to do when it is taken.
class Exchange {
 public:
  void lock() { benchmark::DoNotOptimize(word_.exchange(1, std::memory_order_acquire)); }
  void unlock() { word_.store(0, std::memory_order_release); }

 private:
  std::atomic<int> word_{0};
};

template <class Mutex>
void lock_and_unlock(benchmark::State& state) {
  Mutex mutex;
  for (auto _ : state) {
    mutex.lock();
    mutex.unlock();
  }
}

void value_add(benchmark::State& state) {
  mp::Value<long> value(0);
  for (auto _ : state) benchmark::DoNotOptimize(value += 1);
}
void atomic_add(benchmark::State& state) {
  std::atomic<long> value{0};
  for (auto _ : state) benchmark::DoNotOptimize(value += 1);
}

const std::vector<std::pair<std::string, void (*)(benchmark::State&)>> kCases = {
    {"lock", lock_and_unlock<mp::Lock>},
    {"rlock", lock_and_unlock<mp::RLock>},
    {"value", value_add},
    {"std-mutex", lock_and_unlock<std::mutex>},
    {"std-recursive-mutex", lock_and_unlock<std::recursive_mutex>},
    {"robust-mutex", lock_and_unlock<RobustMutex>},
#ifdef BOOST_INTERPROCESS_MUTEX_HPP
    {"boost-mutex", lock_and_unlock<boost::interprocess::interprocess_mutex>},
#endif
    {"exchange", lock_and_unlock<Exchange>},
    {"atomic", atomic_add},
};

// Google Benchmark's figure as a contender prints it.
class Printer : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs)
      if (run.run_type == Run::RT_Iteration) print("value", run.GetAdjustedRealTime());
  }
};

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  mp::freeze_support();
  bool quick = argc > 2 && std::string(argv[2]) == "quick";
  for (const auto& [name, run] : bench::kCases) {
    if (argc < 2 || name != argv[1]) continue;
    benchmark::RegisterBenchmark(name.c_str(), run)->MinTime(quick ? 0.001 : 0.2);
    std::jthread second([](std::stop_token stop) {  // a process with one thread gets locks without atomics from glibc
      while (!stop.stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    });
    bench::Printer printer;
    return benchmark::RunSpecifiedBenchmarks(&printer) ? 0 : 1;
  }
  return 2;
}
