// Runs the benchmark's cases side by side and says which targets are met. Nothing is asserted: the exit status is 0 when
// everything of ours ran, whatever the figures.
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <fstream>

#include <fmt/format.h>

#include "case.hpp"
#include "machine.hpp"
#include "output.hpp"
#include "run.hpp"

namespace {

bool write(const std::string& file, const std::string& text) {
  if (file.empty() || (std::ofstream(file) << text).flush()) return true;
  fmt::print(stderr, "bench: cannot write {}\n", file);
  return false;
}

bool ran(const Measurement& m) {
  if (m.value) return true;
  fmt::print(stderr, "bench: {}: {}\n", m.name, m.why_not);
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  std::string filter, json, html;
  bool list = false;
  RunOptions options;
  CLI::App app("Measures mp, its rivals and what the machine can do side by side, in turns.");
  app.add_option("filter", filter, "only cases whose name contains this");
  app.add_flag("--list", list, "print the cases and their targets");
  app.add_option("--json", json, "write the rows into this file");
  app.add_option("--html", html, "write a page with charts into this file");
  app.add_option("--rounds", options.rounds, "how often each contender has its turn")->check(CLI::Range(1, 1000));
  app.add_flag("--quick", options.quick, "one round of tiny sizes: whether everything works, not how fast");
  CLI11_PARSE(app, argc, argv);
  if (options.quick) options.rounds = 1;

  std::vector<const Case*> chosen;
  for (const Case& each : all_cases())
    if (each.name.find(filter) != std::string::npos) chosen.push_back(&each);
  if (chosen.empty()) {
    fmt::print(stderr, "bench: no case's name contains '{}'; --list names them\n", filter);
    return 2;
  }
  if (list) {
    for (const Case* each : chosen) fmt::print("{:<28} {:<10} {}\n", each->name, each->unit, each->target_text());
    return 0;
  }

  Machine machine = this_machine();
  double load = 0;
  if (!options.quick && ::getloadavg(&load, 1) == 1 && load > 0.5)
    fmt::print(stderr, "bench: this machine is busy (load {:.1f}): the figures will not be what it can do\n", load);
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
  int met = 0, targets = 0;
  for (const Row& row : rows) {
    targets += !row.of->target.empty();
    met += row.met().value_or(false);
  }
  if (options.quick) fmt::print("\n--quick: the figures mean nothing\n");
  else fmt::print("\n{} of {} targets met\n", met, targets);
  bool written = write(json, as_json(rows, machine));
  written &= write(html, as_page(rows, machine));
  return all_ran && written ? 0 : 1;
}
