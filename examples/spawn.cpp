// Clean child images: under spawn and forkserver the program is executed afresh, and mp::freeze_support(), the first line of
// main, turns that copy into the child. Nothing of the parent's memory is there but what was sent.
#include <iostream>
#include <string>

#include <mp/mp.hpp>

int touched = 0;

void report(mp::Queue<std::string> out, const std::string& method) {
  out.put(method + (touched ? ": a copy of the parent" : ": a clean image"));
}

int square(int x) { return x * x; }

int main() {
  mp::freeze_support();
  touched = 1;

  int wrong = 0;
  mp::Queue<std::string> out;
  for (mp::StartMethod method : mp::get_all_start_methods()) {
    mp::Process p({.context = method}, report, out, std::string(mp::to_string(method)));
    p.start();
    std::string said = out.get();
    std::cout << said << std::endl;
    wrong += (said.find("copy") != std::string::npos) != (method == mp::fork);
    p.join();
    wrong += p.exitcode() != 0;
  }
  mp::ProcessPoolExecutor pool({.max_workers = 2, .mp_context = mp::get_context(mp::spawn)});
  int sum = 0;
  for (int y : pool.map(square, std::vector<int>{1, 2, 3})) sum += y;
  std::cout << "a pool of spawned workers says " << sum << std::endl;
  return wrong == 0 && sum == 14 ? 0 : 1;
}
