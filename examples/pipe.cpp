// Pipe: two processes talk, in values of any type that can be sent.
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include <mp/mp.hpp>

int main() {
  using namespace std::string_literals;
  auto [here, there] = mp::Pipe();
  mp::Process child([there = std::move(there)]() mutable {
    there.send(there.recv<std::string>() + "!");
    long sum = 0;
    for (long n : there.recv<std::vector<long>>()) sum += n;
    there.send(sum);
  });
  child.start();

  here.send("hello"s);
  std::string answer = here.recv<std::string>();
  here.send(std::vector<long>{1, 2, 3});
  long sum = here.recv<long>();
  std::cout << answer << ' ' << sum << std::endl;
  try {
    here.recv<long>();  // the child has ended
    return 1;
  } catch (const mp::EOFError& e) {
    std::cout << e.what() << std::endl;
  }
  return answer == "hello!" && sum == 6 ? 0 : 1;
}
