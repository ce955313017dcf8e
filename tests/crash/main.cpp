// Kills a process after every instruction of every operation of the library that changes something shared, and looks whether the
// others go on: tools/survive runs it, README.md tells how and what came of it.
//
//   main --fork--> watcher, one a scene --fork--> survivor (the root of a family, and the stepper) --fork--> victim, peers
//
// Here is only what must outlive everything else: the table of scenes, the watch over a scene that hangs, and the report.
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "mp/context.hpp"
#include "play.hpp"
#include "scene.hpp"

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

// A survivor that does nothing for so long hangs.
constexpr std::chrono::seconds kSilence{40};
constexpr int kHangs = 3;  // of one scene; then it is left

struct Row {
  const crash::Scene* scene;
  std::string name;
  crash::Report* report;
  std::chrono::duration<double> took{};
  pid_t watcher = 0;
  Clock::time_point start{};
};

volatile sig_atomic_t interrupted = 0;

// One mapping for all, since a victim may read through its mappings.
crash::Report* new_reports(std::size_t n) {
  void* place = ::mmap(nullptr, n * sizeof(crash::Report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (place == MAP_FAILED) std::perror("mmap"), std::exit(2);
  auto* reports = static_cast<crash::Report*>(place);
  std::uninitialized_value_construct_n(reports, n);
  return reports;
}

pid_t fork_or_exit() {
  ::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) std::perror("fork"), std::exit(2);
  return pid;
}

// Ends all that came from this process and still lives; how many did so two seconds after it should not.
int clear_away(bool at_once) {
  const auto until = Clock::now() + (at_once ? 0s : 2s);
  int left = 0;
  for (;;) {
    pid_t got = ::waitpid(-1, nullptr, WNOHANG);
    if (got < 0 && errno == ECHILD) return left;
    if (got > 0) continue;
    if (Clock::now() > until) {
      std::ifstream children("/proc/self/task/" + std::to_string(::getpid()) + "/children");
      for (pid_t pid; children >> pid;) {
        ++left;
        ::kill(pid, SIGKILL);
      }
      // Their children come here in turn.
    }
    ::usleep(1000);
  }
}

// In a process of its own, to which all comes back that a killed survivor leaves.
void watch(const crash::Scene& scene, const crash::Plan& plan, crash::Report& report) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  for (int hangs = 0; !interrupted;) {
    const pid_t pid = fork_or_exit();
    if (pid == 0) {
      ::setpgid(0, 0);
      ::signal(SIGINT, SIG_DFL);
      ::signal(SIGTERM, SIG_DFL);
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      try {
        crash::play(scene, plan, report);
      } catch (const std::exception& e) {
        ++report.violations;
        report.say(std::string("the survivor: ") + e.what());
      }
      ::fflush(nullptr);
      ::_exit(0);
    }
    ::setpgid(pid, pid);
    long beat = report.beat;
    auto heard = Clock::now();
    int status = 0;
    bool silent = false;
    while (::waitpid(pid, &status, WNOHANG) == 0) {
      ::usleep(2000);
      if (report.beat != beat) beat = report.beat, heard = Clock::now();
      if ((silent = Clock::now() - heard > kSilence) || interrupted) {
        ::kill(-pid, SIGKILL);
        ::waitpid(pid, &status, 0);
        break;
      }
    }
    const bool ended = !silent && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    const int left = clear_away(!ended);
    if (interrupted) break;
    if (ended) {
      if (left > 0) {
        ++report.violations;
        report.say(std::to_string(left) + " processes still lived when all was over");
      }
      break;
    }
    ++report.violations;
    const char* doing = report.doing;
    report.say("killed after instruction " + std::to_string(report.step) + ", before " +
               crash::place_of(report.address) + ": the survivor " +
               (silent ? "hangs" : "ended with status " + std::to_string(status)) + " while " +
               (doing ? doing : "it began"));
    if (++hangs == kHangs || report.points == 0) break;
  }
}

void launch(Row& row, const crash::Plan& plan) {
  row.start = Clock::now();
  row.watcher = fork_or_exit();
  if (row.watcher != 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  watch(*row.scene, plan, *row.report);
  ::_exit(0);
}

void print_head() {
  std::printf("%-58s %12s %7s %8s %10s %7s\n", "operation", "instructions", "kills", "worst ms", "violations", "leaks");
}

void print(const Row& row) {
  const crash::Report& r = *row.report;
  const std::string leaks =
      r.leaked > 0 ? std::to_string(r.leaks) + " kills, " + std::to_string(r.leaked) + " B" : std::string("0");
  std::printf("%-58s %12ld %7ld %8.1f %10ld %7s   %.0f s\n", row.name.c_str(), r.instructions.load(), r.kills.load(),
              static_cast<double>(r.worst_ns.load()) / 1e6, r.violations.load(), leaks.c_str(), row.took.count());
  for (int i = 0; i < r.texts; ++i) std::printf("    %s\n", r.text[i].text);
  std::fflush(stdout);
}

// Plays all, `lanes` at a time: from the front, where survivors sleep most, and from the back, where they are busy most.
void play_all(std::vector<Row>& rows, const crash::Plan& plan, long lanes) {
  std::size_t front = 0, back = rows.size();
  std::vector<Row*> playing;
  while (true) {
    while (!interrupted && front < back && std::ssize(playing) < lanes) {
      Row& row = rows[std::ranges::count_if(playing, [&](Row* r) { return r < &rows[front]; }) > 0 ? --back : front++];
      launch(row, plan);
      playing.push_back(&row);
    }
    if (playing.empty()) return;
    int status = 0;
    const pid_t got = ::waitpid(-1, &status, WNOHANG);
    if (got == 0) {
      ::usleep(2000);
      if (interrupted)
        for (Row* row : playing) ::kill(row->watcher, SIGTERM);
      continue;
    }
    const auto over = std::ranges::find(playing, got, &Row::watcher);
    if (over == playing.end()) continue;
    Row& row = **over;
    playing.erase(over);
    row.took = Clock::now() - row.start;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      ++row.report->violations;
      row.report->say("its watcher ended with status " + std::to_string(status));
    }
    print(row);
  }
}

const char* const usage =
    "usage: survive [--sample] [--json FILE] [--seed N] [--lanes N] [--list] [FILTER...]\n\n"
    "  --sample     some twenty kills an operation, chosen by the seed, instead of all\n"
    "  --json FILE  one row an operation\n"
    "  --seed N     of the order of kills, and of the sample; the time unless named\n"
    "  --lanes N    operations played side by side; 2 unless named\n"
    "  --list       names the operations\n"
    "  FILTER       only operations whose name contains one of these\n";

}  // namespace

int main(int argc, char** argv) {
  mp::freeze_support();  // of the scenes that start processes by other means than fork
  crash::Plan plan;
  plan.seed = static_cast<std::uint64_t>(Clock::now().time_since_epoch().count()) % 1'000'000;
  std::string json;
  std::vector<std::string> filters;
  bool list = false;
  long lanes = 2;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) std::fputs(usage, stderr), std::exit(2);
      return argv[++i];
    };
    if (argument == "--sample") plan.sample = 16;
    else if (argument == "--json") json = value();
    else if (argument == "--seed") plan.seed = std::strtoull(value().c_str(), nullptr, 10);
    else if (argument == "--lanes") lanes = std::max(1l, std::atol(value().c_str()));
    else if (argument == "--list") list = true;
    else if (argument == "-h" || argument == "--help") return std::fputs(usage, stdout), 0;
    else if (argument[0] == '-') return std::fputs(usage, stderr), 2;
    else filters.push_back(argument);
  }

  crash::Scenes scenes;
  crash::add_memory(scenes);
  crash::add_locks(scenes);
  crash::add_signals(scenes);
  crash::add_queues(scenes);
  crash::add_pipes(scenes);
  crash::add_values(scenes);
  crash::add_tasks(scenes);
  crash::add_maps(scenes);
  crash::add_processes(scenes);

  for (int number : {SIGINT, SIGTERM}) ::signal(number, [](int) { interrupted = 1; });

  const auto start = Clock::now();
  std::vector<Row> rows;
  crash::Report* reports = new_reports(scenes.size());
  if (!list) {
    std::printf("seed %llu\n", static_cast<unsigned long long>(plan.seed));
    print_head();
    std::fflush(stdout);
  }
  for (const crash::Scene& scene : scenes) {
    const std::string name = scene.room + ": " + scene.name;
    if (!filters.empty() && std::ranges::none_of(filters, [&](auto& f) { return name.find(f) != name.npos; })) continue;
    if (list) std::puts(name.c_str());
    else rows.push_back({&scene, name, reports++});
  }
  if (list) return 0;
  play_all(rows, plan, lanes);

  long instructions = 0, kills = 0, violations = 0, leaks = 0, points = 0;
  double worst = 0;
  nlohmann::json out = nlohmann::json::array();
  for (const Row& row : rows) {
    const crash::Report& r = *row.report;
    instructions += r.instructions, kills += r.kills, violations += r.violations,
        leaks += r.leaked > 0 ? r.leaks.load() : 0, points += r.points;
    const double ms = static_cast<double>(r.worst_ns.load()) / 1e6;
    worst = std::max(worst, ms);
    nlohmann::json texts = nlohmann::json::array();
    for (int i = 0; i < r.texts; ++i) texts.push_back(r.text[i].text);
    out.push_back({{"operation", row.name},
                   {"instructions", r.instructions.load()},
                   {"kills", r.kills.load()},
                   {"points", r.points.load()},
                   {"asleep", r.asleep.load()},
                   {"worst_ms", ms},
                   {"violations", r.violations.load()},
                   {"leaks", r.leaks.load()},
                   {"most_leaked", r.most_leaked.load()},
                   {"leaked", std::max(0l, r.leaked.load())},
                   {"seconds", row.took.count()},
                   {"what", texts}});
  }
  std::printf(
      "%zu operations, %ld instructions, %ld kills of %ld planned, worst delay %.1f ms, %ld violations, %ld kills "
      "leaked; %.0f s\n",
      rows.size(), instructions, kills, points, worst, violations, leaks,
      std::chrono::duration<double>(Clock::now() - start).count());
  if (!json.empty()) {
    std::ofstream file(json);
    file << out.dump(1) << '\n';
    if (!file.flush()) return std::fprintf(stderr, "survive: cannot write %s\n", json.c_str()), 2;
  }
  if (interrupted) return std::puts("interrupted"), 130;
  return violations == 0 && !rows.empty() ? 0 : 1;
}
