// A pool that waits, beside a program that computes on every CPU: what the program takes, in milliseconds.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <thread>

#include <mp/mp.hpp>

#include "beside.hpp"
#include "ours.hpp"
#include "pool_work.hpp"

namespace bench {
namespace {

using namespace std::chrono_literals;

// One process a CPU, forked before the pool is, started together, timed each by itself.
class Program {
 public:
  Program() {
    if (::pipe(go_) != 0 || ::pipe(done_) != 0) throw std::runtime_error("no pipe");
    for (unsigned i = 0; i < mp::process_cpu_count(); ++i) {
      processes_.push_back(std::make_unique<Beside>([this] {
        char word;
        if (::read(go_[0], &word, 1) != 1) return;
        auto begin = Clock::now();
        std::uint64_t x = 1;
        for (std::size_t n = size(400'000'000, 1'000'000); n > 0; --n) x = x * 6364136223846793005u + n;
        keep(x);
        double took = nanoseconds(Clock::now() - begin) / 1e6;
        if (::write(done_[1], &took, sizeof(took)) != sizeof(took)) return;
      }));
    }
  }
  void start() {
    for (std::size_t i = 0; i < processes_.size(); ++i)
      if (::write(go_[1], "g", 1) != 1) throw std::runtime_error("cannot start the program");
  }
  // Prints the mean of the processes once all are done; false if they were not within `limit`.
  bool finish(std::chrono::milliseconds limit) {
    while (results_ < processes_.size()) {
      pollfd look{done_[0], POLLIN, 0};
      if (::poll(&look, 1, static_cast<int>(limit.count())) == 0) return false;
      double took;
      if (::read(done_[0], &took, sizeof(took)) != sizeof(took)) throw std::runtime_error("the program died");
      sum_ += took;
      ++results_;
    }
    print("value", sum_ / static_cast<double>(results_));
    return true;
  }

 private:
  int go_[2], done_[2];
  std::vector<std::unique_ptr<Beside>> processes_;
  std::size_t results_ = 0;
  double sum_ = 0;
};

void alone() {
  Program program;
  program.start();
  program.finish(60s);
}

// Nothing to do for anybody.
void idle() {
  Program program;
  mp::ProcessPoolExecutor pool(kWorkers);
  for (int i = 0; i < 1000; ++i) pool.submit(next, 1L).result();
  program.start();
  program.finish(60s);
}

void hold(mp::Event open) { open.wait(); }

// A caller in result(), a worker in a task that waits for an Event, another without a task.
void waiting() {
  Program program;
  mp::ProcessPoolExecutor pool(kWorkers);
  mp::Event open;
  auto future = pool.submit(hold, open);
  std::thread caller([&] { future.result(); });
  program.start();
  program.finish(60s);
  open.set();
  caller.join();
}

// A task every millisecond: after each, all sides wait anew, as long as they dare to spin.
void trickle() {
  Program program;
  mp::ProcessPoolExecutor pool(kWorkers);
  program.start();
  while (!program.finish(1ms)) pool.submit(next, 1L).result();
}

}  // namespace

std::vector<Entry> beside_entries() {
  return {{"beside-alone", alone}, {"beside-idle", idle}, {"beside-waiting", waiting}, {"beside-trickle", trickle}};
}

}  // namespace bench
