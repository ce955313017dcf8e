// Which of many large numbers are prime, found out by trial division: on a pool of processes, on a pool of threads, and one
// after the other; timed, and compared.
//
//   prime [--count 1000] [--workers 16] [--seed N] [--chunksize N] [--file NUMBERS]      NUMBERS may be -
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <random>

#include <fmt/format.h>
#include <mp/mp.hpp>

#include "numbers.hpp"

namespace {

bool is_prime(std::uint64_t n) {
  if (n < 2) return false;
  if (n % 2 == 0) return n == 2;
  for (std::uint64_t d = 3; d <= n / d; d += 2)
    if (n % d == 0) return false;
  return true;
}

// A line on the terminal that is drawn again and again; nothing where standard error is no terminal.
class ProgressBar {
 public:
  ProgressBar(std::string name, std::size_t total)
      : name_(std::move(name)),
        total_(total),
        shown_(::isatty(STDERR_FILENO)) {}
  ~ProgressBar() {
    if (shown_) fmt::print(stderr, "\r\033[K");
  }
  void step() {
    ++done_;
    if (!shown_ || (done_ * 100 / total_ == (done_ - 1) * 100 / total_)) return;
    constexpr std::size_t width = 40;
    std::size_t filled = done_ * width / total_;
    fmt::print(stderr, "\r{:<9} [{:=<{}}{:<{}}] {:3}%", name_, "", filled, "", width - filled, done_ * 100 / total_);
  }

 private:
  std::string name_;
  std::size_t total_, done_ = 0;
  bool shown_;
};

struct Run {
  std::vector<bool> prime;
  double seconds;
};

template <class Work>
Run timed(const std::string& name, std::size_t total, Work&& work) {
  Run run{{}, 0};
  run.prime.reserve(total);
  ProgressBar bar(name, total);
  auto begin = std::chrono::steady_clock::now();
  work([&](bool prime) {
    run.prime.push_back(prime);
    bar.step();
  });
  run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return run;
}

Run on_pool(const std::string& name, auto&& pool, const std::vector<std::uint64_t>& numbers, std::size_t chunksize) {
  return timed(name, numbers.size(), [&](auto&& take) {
    for (bool prime : pool.map(mp::MapOptions{.chunksize = chunksize}, is_prime, numbers)) take(prime);
  });
}

}  // namespace

int main(int argc, char** argv) {
  mp::freeze_support();
  std::size_t count = 1000, chunksize = 0;
  unsigned workers = 16;
  std::uint64_t seed = std::random_device()();
  std::string file;
  CLI::App app("Finds the primes among many large numbers: on processes, on threads, and serially.");
  app.add_option("--count", count, "how many random numbers");
  app.add_option("--workers", workers, "processes, and threads")->check(CLI::Range(1, 1024));
  app.add_option("--seed", seed, "of the random numbers");
  app.add_option("--chunksize", chunksize, "numbers that travel together; 0: chosen");
  app.add_option("--file", file, "read the numbers from this file, one a line; - is standard input");
  CLI11_PARSE(app, argc, argv);

  std::vector<std::uint64_t> numbers;
  try {
    if (file.empty()) {
      numbers = random_numbers(count, seed);
    } else if (file == "-") {
      numbers = read_numbers(std::cin, "-");
    } else {
      std::ifstream in(file);
      if (!in) throw BadLine(file + ": cannot be opened");
      numbers = read_numbers(in, file);
    }
  } catch (const BadLine& bad) {
    fmt::print(stderr, "{}\n", bad.what());
    return 2;
  }

  Run processes = on_pool("Processes", mp::ProcessPoolExecutor(workers), numbers, chunksize);
  Run threads = on_pool("Threads", mp::ThreadPoolExecutor(workers), numbers, chunksize);
  Run serial = timed("Serial", numbers.size(), [&](auto&& take) {
    for (auto n : numbers) take(is_prime(n));
  });

  fmt::print("Timings:\n");
  fmt::print("Processes: {:.3f}\n", processes.seconds);
  fmt::print("Threads  : {:.3f}\n", threads.seconds);
  fmt::print("Serial   : {:.3f}\n", serial.seconds);
  fmt::print("Processes are {:.2f} times as fast as serial, {:.2f} times as fast as threads.\n",
             serial.seconds / processes.seconds, threads.seconds / processes.seconds);
  fmt::print("{} of {} numbers are prime.\n", std::count(serial.prime.begin(), serial.prime.end(), true),
             numbers.size());
  if (processes.prime != serial.prime || threads.prime != serial.prime) {
    fmt::print(stderr, "prime: the answers of processes, threads and serial differ\n");
    return 1;
  }
}
