// Runs the benchmark's cases side by side and says which targets are met. Nothing is asserted: the exit status is 0 when
// everything of ours ran, whatever the figures; 1 when something of it failed; 2 for what cannot be done as asked.
#include <fcntl.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include <fmt/format.h>

#include "case.hpp"
#include "machine.hpp"
#include "output.hpp"
#include "run.hpp"

namespace {

// Whether it can be written is asked before minutes of measuring. Leaves no file where there was none.
bool can_write(const std::string& file) {
  if (file.empty()) return true;
  bool was_there = ::access(file.c_str(), F_OK) == 0;
  int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) {
    fmt::print(stderr, "bench: cannot write {}: {}\n", file, std::strerror(errno));
    return false;
  }
  ::close(fd);
  if (!was_there) ::unlink(file.c_str());
  return true;
}

bool write(const std::string& file, const std::string& text) {
  if (file.empty() || (std::ofstream(file) << text).flush()) return true;
  fmt::print(stderr, "bench: cannot write {}: {}\n", file, std::strerror(errno));
  return false;
}

// A contender that was not built, for want of a library, has not failed.
bool ran(const Measurement& m) {
  if (m.value || m.why_not == "missing") return true;
  fmt::print(stderr, "bench: {}: {}\n", m.name, m.why_not);
  return false;
}

// The cases whose names contain one of these; all for none. Nothing if one of these names none.
std::vector<const Case*> choose(const std::vector<std::string>& filters) {
  std::vector<const Case*> chosen;
  auto is_in = [](const Case& one, const std::string& filter) { return one.name.find(filter) != std::string::npos; };
  for (const auto& filter : filters) {
    if (std::any_of(all_cases().begin(), all_cases().end(), [&](const Case& one) { return is_in(one, filter); }))
      continue;
    fmt::print(stderr, "bench: no case's name contains '{}'; --list names them\n", filter);
    return {};
  }
  for (const Case& one : all_cases())
    if (filters.empty() ||
        std::any_of(filters.begin(), filters.end(), [&](auto& filter) { return is_in(one, filter); }))
      chosen.push_back(&one);
  return chosen;
}

void print_end(const std::vector<Row>& rows) {
  std::string not_met, near, unknown;
  int met = 0, targets = 0;
  for (const Row& row : rows) {
    if (row.of->target.empty()) continue;
    ++targets;
    if (auto is_met = row.met(); !is_met) unknown += " " + row.of->name;
    else if (*is_met) ++met;
    else (row.near_possible() ? near : not_met) += " " + row.of->name;
  }
  fmt::print("\n{} of {} targets met\n", met, targets);
  if (!near.empty()) fmt::print("near what is possible here:{}\n", near);
  if (!not_met.empty()) fmt::print("not met:{}\n", not_met);
  if (!unknown.empty()) fmt::print("unknown:{}\n", unknown);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> filters;
  std::string json, html;
  bool list = false;
  RunOptions options;
  CLI::App app("Measures mp, its rivals and what the machine can do side by side, in turns.", "bench");
  app.add_option("filter", filters, "only cases whose name contains one of these");
  app.add_flag("--list", list, "print the cases and their targets");
  app.add_option("--json", json, "write the rows into this file");
  app.add_option("--html", html, "write a page with charts into this file");
  app.add_option("--rounds", options.rounds, "how often each contender has its turn")->check(CLI::Range(1, 1000));
  app.add_flag("--quick", options.quick, "one round of tiny sizes: whether everything works, not how fast");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  if (options.quick) options.rounds = 1;

  std::vector<const Case*> chosen = choose(filters);
  if (chosen.empty() || !can_write(json) || !can_write(html)) return 2;
  if (list) {
    for (const Case* each : chosen) fmt::print("{:<28} {:<10} {}\n", each->name, each->unit, each->target_text());
    return 0;
  }

  std::string others = options.quick ? "not looked at" : wait_for_quiet();
  Machine machine = this_machine();
  machine.emplace_back("others", others);
  print_machine(machine);
  print_head();
  std::vector<Row> rows;
  bool all_ran = true;
  for (const Case* each : chosen) {
    rows.push_back(run_case(*each, options));
    print_row(rows.back());
    all_ran &= ran(rows.back().ours);
    for (const Measurement& floor : rows.back().floors) all_ran &= ran(floor);
  }
  if (options.quick) fmt::print("\n--quick: the figures mean nothing\n");
  else print_end(rows);
  bool written = write(json, as_json(rows, machine));
  written &= write(html, as_page(rows, machine));
  return all_ran && written ? 0 : 1;
}
