// Runs victims (victim.cpp), each in a process of its own with a deadline, and says what came of them.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "plan.hpp"

namespace faults {

// So long a step may take at most before it counts as a hang; it takes milliseconds where nobody else needs the machine.
inline constexpr std::chrono::seconds kDeadline{30};

struct Ended {
  bool hung = false;     // and was killed; the stacks are printed
  int code = 0;          // exit code, or -N for signal N
  bool orphans = false;  // processes of it were there two seconds later, and were killed
  std::string output;    // what it and its children printed
};

// Runs the victim with PROGRAM; `before` runs in its process before it is executed, and refuses by a text on standard error and a code
// above 0. The caller becomes a subreaper.
Ended run_victim(const std::string& program, const std::function<int()>& before = {});

// A plan of which the victims know that are run while it exists.
class SharedPlan {
 public:
  SharedPlan();
  ~SharedPlan();
  SharedPlan(const SharedPlan&) = delete;
  Plan* operator->() const noexcept { return plan_; }
  Plan& operator*() const noexcept { return *plan_; }

 private:
  int fd_;
  Plan* plan_;
};

// Beside this program: tests/faults/victim.
std::string victim_file();

std::string name_of(mp::os::Call call);

}  // namespace faults
