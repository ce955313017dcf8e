#include "run.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <sstream>

#include <fmt/format.h>

extern char** environ;

namespace {

constexpr int kLimitSeconds = 120;

struct Printed {
  std::map<std::string, double> values;
  std::vector<std::string> notes;
  std::string why_not;
};

std::vector<std::string> command_of(const Contender& contender, bool quick) {
  std::vector<std::string> command;
  if (contender.program.ends_with(".py")) {
    command = {python(), contender_path(contender.program)};
  } else {
    if (contender.program.starts_with("mpi"))
      command = {"mpirun", "--allow-run-as-root", "--oversubscribe", "--quiet", "-n", "2"};
    command.push_back(contender_path("bench_" + contender.program));
  }
  command.push_back(contender.test);
  if (quick) command.push_back("quick");
  return command;
}

Printed run(const Contender& contender, bool quick) {
  Printed printed;
  auto command = command_of(contender, quick);
  bool is_script = contender.program.ends_with(".py");
  if (!std::filesystem::exists(contender_path(is_script ? contender.program : "bench_" + contender.program)) ||
      (is_script && python().empty())) {
    printed.why_not = "missing";
    return printed;
  }
  std::istringstream lines(output_of(command, kLimitSeconds, printed.why_not));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string key;
    words >> key;
    if (key == "note") {
      std::string text;
      std::getline(words >> std::ws, text);
      printed.notes.push_back(text);
      if (text.starts_with("WRONG")) printed.why_not = "wrong result";
    } else if (double value; words >> value) {
      printed.values[key] = value;
    } else if (key == "missing") {  // says a script whose module is not there
      printed.why_not = "missing";
    }
  }
  if (printed.why_not.empty() && !printed.values.contains("value")) printed.why_not = "printed no value";
  return printed;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  std::size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Spread spread_of(const std::vector<double>& values) {
  auto [least, most] = std::minmax_element(values.begin(), values.end());
  return {median(values), *least, *most};
}

// A contender's rounds made one.
Measurement sum_up(const std::string& name, const std::vector<Printed>& rounds) {
  Measurement all{.name = name};
  std::map<std::string, std::vector<double>> values;
  for (const Printed& round : rounds) {
    if (!round.why_not.empty()) {
      all.why_not = round.why_not;
      continue;
    }
    for (const auto& [key, value] : round.values) values[key].push_back(value);
    for (const std::string& note : round.notes)
      if (std::find(all.notes.begin(), all.notes.end(), note) == all.notes.end()) all.notes.push_back(note);
  }
  if (!all.why_not.empty()) return all;  // one failed round is too many
  for (const auto& [key, list] : values) all.detail[key] = spread_of(list);
  Spread value = all.detail["value"];
  all.value = value.median;
  all.least = value.least;
  all.most = value.most;
  all.detail.erase("value");
  return all;
}

}  // namespace

std::string output_of(const std::vector<std::string>& command, int seconds, std::string& problem) {
  int out[2];
  if (::pipe2(out, O_CLOEXEC) != 0) {
    problem = "no pipe";
    return {};
  }
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, out[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);  // so that all of it can be ended
  std::vector<char*> arguments;
  for (const auto& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  pid_t pid = 0;
  int failed = ::posix_spawnp(&pid, arguments[0], &files, &attributes, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  ::close(out[1]);
  if (failed) {
    ::close(out[0]);
    problem = failed == ENOENT ? "missing" : fmt::format("cannot be started: {}", std::strerror(failed));
    return {};
  }

  std::string text;
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  bool in_time = true;
  for (;;) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
    pollfd look{out[0], POLLIN, 0};
    if (left <= 0 || ::poll(&look, 1, static_cast<int>(left)) == 0) {
      in_time = false;
      break;
    }
    char bytes[4096];
    ssize_t n = ::read(out[0], bytes, sizeof(bytes));
    if (n <= 0) break;
    text.append(bytes, static_cast<std::size_t>(n));
  }
  ::close(out[0]);
  if (!in_time) ::kill(-pid, SIGKILL);
  int status = 0;
  ::waitpid(pid, &status, 0);
  ::kill(-pid, SIGKILL);  // what it left behind; its group is of our making
  if (!in_time) problem = fmt::format("not done after {} s", seconds);
  else if (WIFSIGNALED(status)) problem = fmt::format("killed by signal {}", WTERMSIG(status));
  else if (WEXITSTATUS(status) == 127) problem = "missing";  // the loader's, for a library that is gone since the build
  else if (WEXITSTATUS(status) != 0) problem = fmt::format("exit status {}", WEXITSTATUS(status));
  return text;
}

std::string contender_path(const std::string& file) {
  static const auto folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  return folder / file;
}

const std::string& python() {
  static const std::string found = [] {
    std::string first;
    for (const char* candidate :
         {"python3", "/usr/bin/python3"}) {  // the second: where another one hides the package's
      std::string problem, other;
      output_of({candidate, "-c", "import multiprocessing.synchronize"}, 20, problem);
      if (!problem.empty()) continue;
      if (first.empty()) first = candidate;
      output_of({candidate, "-c", "import importlib.util, sys; sys.exit(importlib.util.find_spec('joblib') is None)"},
                20, other);
      if (other.empty()) return std::string(candidate);
    }
    return first;
  }();
  return found;
}

Row run_case(const Case& which, const RunOptions& options) {
  std::vector<const Contender*> all;
  for (const auto* list : {&which.ours, &which.rivals, &which.floors})
    for (const Contender& contender : *list) all.push_back(&contender);
  std::vector<std::vector<Printed>> printed(all.size());
  for (int round = 0; round < options.rounds; ++round) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      std::size_t turn = round % 2 ? all.size() - 1 - i : i;
      if (!printed[turn].empty() && printed[turn].back().why_not == "missing") continue;
      printed[turn].push_back(run(*all[turn], options.quick));
    }
  }

  Row row{.of = &which, .quick = options.quick};
  std::size_t at = 0;
  for (const Contender& part : which.ours) row.parts.push_back(sum_up(part.name, printed[at++]));
  for (const Contender& rival : which.rivals) row.rivals.push_back(sum_up(rival.name, printed[at++]));
  for (const Contender& floor : which.floors) row.floors.push_back(sum_up(floor.name, printed[at++]));
  if (!which.combine) {
    row.ours = std::move(row.parts[0]);
    row.parts.clear();
    return row;
  }
  row.ours.name = "mp";
  for (const Measurement& part : row.parts)
    if (row.ours.why_not.empty()) row.ours.why_not = part.why_not;
  if (!row.ours.why_not.empty()) return row;
  std::vector<double> combined;
  for (int round = 0; round < options.rounds; ++round) {
    std::vector<double> values;
    for (std::size_t i = 0; i < which.ours.size(); ++i)
      values.push_back(printed[i][static_cast<std::size_t>(round)].values.at("value"));
    combined.push_back(which.combine(values));
  }
  // Of the parts' medians: the greatest of several parts, each from one round, would be the most disturbed one's.
  std::vector<double> medians;
  for (const Measurement& part : row.parts) medians.push_back(*part.value);
  const Spread spread = spread_of(combined);
  row.ours.value = which.combine(medians);
  row.ours.least = spread.least;
  row.ours.most = spread.most;
  return row;
}
