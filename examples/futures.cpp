// Futures: one task, its own limits, and what is told when it goes wrong. The pool goes on whatever happens to a task.
#include <chrono>
#include <csignal>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <mp/mp.hpp>

using namespace std::chrono_literals;

int divide(int a, int b) {
  if (b == 0) throw std::domain_error("division by zero");
  return a / b;
}
int spin() {
  volatile bool never = false;
  while (!never) {}
  return 0;
}
int crash() {
  volatile int* nowhere = nullptr;
  return *nowhere;
}

int main() {
  mp::ProcessPoolExecutor pool(4);
  std::vector<mp::Future<int>> futures;
  for (int i = 1; i <= 8; ++i) futures.push_back(pool.submit(divide, 840, i));
  int sum = 0;
  for (auto& done : mp::as_completed(futures, 30s)) sum += done.result();
  std::cout << "sum " << sum << std::endl;

  int caught = 0;
  try {
    pool.submit(divide, 1, 0).result();
  } catch (const std::domain_error& e) {
    std::cout << "its own type: " << e.what() << ", thrown in " << mp::remote_of(e)->worker << std::endl;
    ++caught;
  }
  try {
    pool.submit(mp::TaskOptions{.timeout = 100ms, .name = "spinner"}, spin).result();
  } catch (const mp::TimeoutError& e) {
    std::cout << e.what() << std::endl;
    ++caught;
  }
  try {
    pool.submit(mp::TaskOptions{.name = "crasher"}, crash).result();
  } catch (const mp::WorkerCrashed& e) {
    std::cout << e.what() << std::endl;
    ++caught;
  }
  int still = pool.submit(divide, 9, 3).result();
  return sum == 2283 && caught == 3 && still == 3 ? 0 : 1;
}
