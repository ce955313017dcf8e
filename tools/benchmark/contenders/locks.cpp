// Uncontended locks and counters, by Google Benchmark: ours, the standard library's, POSIX's for processes, Boost's; and
// what any of them needs at least, one atomic exchange and one store.
#include <benchmark/benchmark.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <thread>
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
struct LockAndUnlock {
  Mutex mutex;
  void operator()() {
    mutex.lock();
    mutex.unlock();
  }
};

template <class Number>
struct Add {
  Number number{0};
  void operator()() { benchmark::DoNotOptimize(number += 1); }
};

template <class Operation>
void run(benchmark::State& state) {
  Operation operation;
  for (auto _ : state) operation();
}

template <class Operation>
void count() {
  Counted counted;
  Operation operation;
  constexpr std::size_t kCount = 10'000;
  counted.per(kCount, [&] {
    for (std::size_t i = 0; i < kCount; ++i) operation();
  });
}

struct Measured {
  std::string name;
  void (*timed)(benchmark::State&);
  void (*counted)();
};
template <class Operation>
Measured measured(const char* name) {
  return {name, run<Operation>, count<Operation>};
}

const std::vector<Measured> kCases = {
    measured<LockAndUnlock<mp::Lock>>("lock"),
    measured<LockAndUnlock<mp::RLock>>("rlock"),
    measured<Add<mp::Value<long>>>("value"),
    measured<LockAndUnlock<std::mutex>>("std-mutex"),
    measured<LockAndUnlock<std::recursive_mutex>>("std-recursive-mutex"),
    measured<LockAndUnlock<RobustMutex>>("robust-mutex"),
#ifdef BOOST_INTERPROCESS_MUTEX_HPP
    measured<LockAndUnlock<boost::interprocess::interprocess_mutex>>("boost-mutex"),
#endif
    measured<LockAndUnlock<Exchange>>("exchange"),
    measured<Add<std::atomic<long>>>("atomic"),
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
  for (const auto& [name, timed, counted] : bench::kCases) {
    if (argc < 2 || name != argv[1]) continue;
    benchmark::RegisterBenchmark(name.c_str(), timed)->MinTime(quick ? 0.001 : 0.2);
    std::jthread second([](std::stop_token stop) {  // a process with one thread gets locks without atomics from glibc
      while (!stop.stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    });
    bench::Printer printer;
    if (benchmark::RunSpecifiedBenchmarks(&printer) == 0) return 1;
    counted();
    return 0;
  }
  return 2;
}
