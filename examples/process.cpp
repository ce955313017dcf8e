// Process: a function in a process of its own; names, exit codes, and what a crash costs.
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>

#include <mp/mp.hpp>

void greet(const std::string& whom) {
  std::cout << "hello " << whom << " from " << mp::current_process().name() << ", child of "
            << mp::parent_process().name() << std::endl;
}

int main() {
  mp::Process friendly({.name = "friendly"}, greet, "world");
  mp::Process crashing([] { std::abort(); });
  mp::Process endless([] {
    for (;;) pause();
  });
  friendly.start();
  crashing.start();
  endless.start();
  endless.terminate();
  for (auto* p : {&friendly, &crashing, &endless}) {
    p->join();
    std::cout << p->name() << " ended with " << *p->exitcode() << std::endl;
  }
  return friendly.exitcode() == 0 && crashing.exitcode() == -SIGABRT && endless.exitcode() == -SIGTERM ? 0 : 1;
}
