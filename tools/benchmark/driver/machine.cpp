#include "machine.hpp"

#include <sys/utsname.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

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

// Of the machine since its start, in clock ticks: everything but idling and waiting for disks; stolen by other guests too.
long busy_ticks() {
  std::istringstream words(first_line("/proc/stat"));
  std::string cpu;
  long user = 0, nice = 0, system = 0, idle = 0, disk = 0, irq = 0, softirq = 0, steal = 0;
  words >> cpu >> user >> nice >> system >> idle >> disk >> irq >> softirq >> steal;
  return user + nice + system + irq + softirq + steal;
}

}  // namespace

// The load average would not do: it remembers for minutes that this benchmark was compiled.
std::string wait_for_quiet() {
  using namespace std::chrono_literals;
  constexpr double kQuiet = 0.1;  // of one CPU
  constexpr int kTries = 30;
  double busy = 0;
  for (int i = 0; i < kTries; ++i) {
    long before = busy_ticks();
    std::this_thread::sleep_for(1s);
    busy = static_cast<double>(busy_ticks() - before) / static_cast<double>(::sysconf(_SC_CLK_TCK));
    if (busy <= kQuiet) break;
    if (i == 0) fmt::print(stderr, "bench: waiting up to {} s for other programs to leave the CPUs alone\n", kTries);
  }
  if (busy > kQuiet)
    fmt::print(stderr,
               "bench: other programs keep {:.1f} CPUs busy: the figures will not be what this machine can do\n", busy);
  return fmt::format("used {:.0f} % of a CPU in the second before the first case", 100 * busy);
}

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
    machine.emplace_back("joblib", line_of({python(), "-c",
                                            "try:\n import joblib\n print(joblib.__version__)\n"
                                            "except ImportError: print('missing')"}));
  }
  return machine;
}
