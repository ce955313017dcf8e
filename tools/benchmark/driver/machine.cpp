#include "machine.hpp"

#include <sys/utsname.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "run.hpp"

namespace {

std::string first_line(const std::string& file) {
  std::string line;
  std::getline(std::ifstream(file), line);
  return line;
}

std::string of_cpuinfo(const std::string& field) {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(field) && line.find(": ") != std::string::npos) return line.substr(line.find(": ") + 2);
  return {};
}

std::string line_of(const std::vector<std::string>& command) {
  std::string problem;
  std::istringstream text(output_of(command, 20, problem));
  std::string line;
  std::getline(text, line);
  return problem.empty() ? line : "missing";
}

}  // namespace

Machine this_machine() {
  utsname kernel{};
  ::uname(&kernel);
  std::string governor = first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  std::string model = of_cpuinfo("model name");
  const char* commit = std::getenv("MP_COMMIT");  // tools/bench knows it
  Machine machine = {
      {"date", fmt::format("{:%Y-%m-%d %H:%M} UTC", fmt::gmtime(std::time(nullptr)))},
      {"cpu", model.empty() ? kernel.machine : model},
      {"cpus", fmt::format("{} online", ::sysconf(_SC_NPROCESSORS_ONLN))},
      {"virtual", of_cpuinfo("flags").find(" hypervisor") == std::string::npos ? "no" : "yes"},
      {"kernel", fmt::format("{} {} {}", kernel.sysname, kernel.release, kernel.machine)},
      {"governor", governor.empty() ? "not visible" : governor},
      {"clock", first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource")},
      {"load", first_line("/proc/loadavg")},
      {"mp", commit ? VERSION + std::string(", ") + commit : VERSION},
      {"compiler", COMPILER},
  };
  std::istringstream versions(VERSIONS);  // "NAME=VERSION;..." of what was built
  for (std::string entry; std::getline(versions, entry, ';');)
    if (auto equals = entry.find('='); equals != std::string::npos)
      machine.emplace_back(entry.substr(0, equals), entry.substr(equals + 1));
  if (python().empty()) {
    machine.emplace_back("Python", "missing");
  } else {
    machine.emplace_back("Python", line_of({python(), "-c", "import platform; print(platform.python_version())"}));
    machine.emplace_back("joblib", line_of({python(), "-c", "import joblib; print(joblib.__version__)"}));
  }
  return machine;
}
