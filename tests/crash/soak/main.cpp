// The soak: real work under random signals, with an exact account. `tools/survive --soak SECONDS` runs it.
//
//     soak (subreaper): killer, watchdog, accountant         root: works, is never hit      below it: everything else, hit at random
//       |----fork--------------------------------------------> |---- pools, nested pools, processes of all start methods
//       |                                                       |
//       '<--- Report: shared memory that outlives the root -----'
//
// Then the root itself is killed, again and again, in the midst of its work: what is below it must be gone within a second.
// It never uses the library itself, so its own death or life is none of the family's business.
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <new>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <mp/context.hpp>

#include "killer.hpp"
#include "report.hpp"
#include "stacks.hpp"
#include "tree.hpp"
#include "workload.hpp"

namespace {

using namespace std::chrono_literals;
using soak::Count;
using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

struct Options {
  double seconds = 60, rate = 110, gone_within = 1;
  std::uint64_t seed = 1;
  std::string json;
};

constexpr const char* kUsage =
    "usage: tools/survive --soak SECONDS [--seed N] [--rate KILLS_PER_SECOND] [--json FILE] [--gone-within SECONDS]\n"
    "  a tenth of the time goes to roots that are killed themselves; --gone-within: how long what is below such a root "
    "may\n"
    "  live on (1 s is what the library promises)\n";

constexpr Seconds kHang = 20s;  // nothing got on for so long
constexpr double kRootsPart = 0.1;

struct Totals {
  double seconds = 0;
  std::uint64_t hangs = 0, ended_badly = 0, left = 0;
  std::uint64_t roots_killed = 0;
  double worst_stall = 0, worst_until_gone = 0;  // s
};

soak::Report* new_report() {
  void* place = ::mmap(nullptr, sizeof(soak::Report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (place == MAP_FAILED) std::perror("soak: mmap"), std::exit(1);
  return new (place) soak::Report;
}

pid_t start_root(soak::Report& report, std::uint64_t seed, double seconds) {
  const pid_t pid = ::fork();
  if (pid < 0) std::perror("soak: fork"), std::exit(1);
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::exit(soak::run_root(report, seed, seconds));
  }
  return pid;
}

void kill_all() {
  for (const pid_t pid : soak::below(::getpid())) ::kill(pid, SIGKILL);
}

// How long it takes until whatever is below this process is gone or has got its SIGKILL, at most `limit`; what is left then is ended.
// Returns when all is gone: on a busy machine that may wait for a CPU to die on.
double until_gone(Seconds limit, soak::Killer& killer, Totals& totals) {
  constexpr Seconds kDying = 10s;
  const auto start = Clock::now();
  std::optional<Seconds> doomed;
  for (;;) {
    soak::reap_others(0);
    killer.resume();
    const auto left = soak::below(::getpid());
    const Seconds passed = Clock::now() - start;
    if (!doomed && std::all_of(left.begin(), left.end(), soak::is_doomed)) doomed = passed;
    if (left.empty()) return doomed->count();
    if (passed > (doomed ? limit + kDying : limit)) {
      ++totals.left;
      std::cerr << "soak: " << left.size() << " processes outlive their root:\n";
      for (const pid_t pid : left) {
        std::cerr << std::ifstream("/proc/" + std::to_string(pid) + "/status").rdbuf();
        test::print_stacks(pid, std::cerr);
      }
      kill_all();
      return passed.count();
    }
    std::this_thread::sleep_for(200us);
  }
}

void tell_hang(const soak::Report& report) {
  std::cerr << "soak: no progress for " << kHang.count() << " s; the root is at: " << report.doing.load() << '\n';
  for (const pid_t pid : soak::below(::getpid())) test::print_stacks(pid, std::cerr);
}

// Kills below the root until it ends by itself or, where it has `lifetime`, is killed then; or hangs.
void attend(pid_t root, soak::Report& report, soak::Killer& killer, Seconds lifetime, const Options& options,
            Totals& totals) {
  const auto start = Clock::now();
  std::uint64_t beat = 0;
  auto beat_at = start;
  bool was_calm = false;
  for (;;) {
    std::this_thread::sleep_for(500us);
    soak::reap_others(root);
    const auto now = Clock::now();
    was_calm |= report.calm.load() != 0;
    if (const std::uint64_t is = report.beat.load(); is != beat) {
      // While it measures it rests on purpose.
      if (!was_calm) totals.worst_stall = std::max(totals.worst_stall, Seconds(now - beat_at).count());
      was_calm = false;
      beat = is;
      beat_at = now;
    }
    if (now - beat_at > kHang) {
      tell_hang(report);
      ++totals.hangs;
      kill_all();
      ::waitpid(root, nullptr, 0);
      until_gone(5s, killer, totals);
      return;
    }
    int status = 0;
    if (::waitpid(root, &status, WNOHANG) == root) {
      if (status != 0) {
        ++totals.ended_badly;
        std::cerr << "soak: the root ended with status " << status << " at: " << report.doing.load() << '\n';
      }
      killer.rest();
      totals.worst_until_gone =
          std::max(totals.worst_until_gone, until_gone(Seconds(options.gone_within), killer, totals));
      return;
    }
    if (lifetime > 0s && now - start > lifetime) {
      ::kill(root, SIGKILL);
      ++totals.roots_killed;
      totals.worst_until_gone =
          std::max(totals.worst_until_gone, until_gone(Seconds(options.gone_within), killer, totals));
      killer.rest();
      return;
    }
    if (report.calm.load()) {
      killer.rest();
      report.is_calm.store(1);
    } else {
      report.is_calm.store(0);
      killer.act(::getpid(), root);
    }
  }
}

struct Row {
  std::string what, figure;
  bool well = true;  // what the soak asks for
};

template <class T>
std::string text(T value) {
  std::ostringstream out;
  out.precision(4);
  out << value;
  return out.str();
}
std::string text(double value, const char* unit) { return text(value) + unit; }

// A kill may leak a block in a window of a few instructions (lib/mp/memory/README.md): that many bytes a kill, on average. And a pool's board
// grows when it first holds more tasks than ever: half a MiB each. Sixteen bytes lost with each task of a long run would be far more.
constexpr std::uint64_t kSlack = soak::Pools::kPools * 512 * 1024, kLeakedByKill = 64;
// A pool opens some descriptors when it first needs them, and keeps them: one each may come after the first measurement.
constexpr std::uint64_t kOpenedLate = soak::Pools::kPools;

std::vector<Row> make_table(const Options& options, const Totals& totals, const soak::Killer::Sent& sent,
                            const soak::Report& report) {
  const std::uint64_t submitted = report[Count::submitted], values = report[Count::values],
                      exceptions = report[Count::exceptions], crashes = report[Count::crashes],
                      cancelled = report[Count::cancelled], timed_out = report[Count::timed_out];
  const std::uint64_t outcomes = values + exceptions + crashes + cancelled + timed_out;
  const std::uint64_t lost = report[Count::lost] + (submitted > outcomes ? submitted - outcomes : 0);
  const std::uint64_t doubled = report[Count::doubled] + (outcomes > submitted ? outcomes - submitted : 0);
  const soak::Gauge &a = report.begin, &b = report.end;
  auto none = [](std::string what, std::uint64_t n) { return Row{std::move(what), text(n), n == 0}; };
  auto both = [](std::string what, std::uint64_t first, std::uint64_t last, std::uint64_t slack) {
    return Row{std::move(what), text(first) + " / " + text(last), last <= first + slack};
  };
  return {
      {"seconds", text(totals.seconds)},
      {"seed", text(options.seed)},
      {"kills", text(sent.kills()), sent.kills() > 0},
      {"of them SIGKILL", text(sent.kill)},
      {"of them SIGTERM", text(sent.term)},
      {"SIGSTOP, then SIGCONT", text(sent.stop)},
      {"tasks submitted", text(submitted), submitted > 0},
      {"values", text(values)},
      {"exceptions", text(exceptions)},
      {"crashes", text(crashes)},
      {"cancelled", text(cancelled)},
      {"timed out", text(timed_out)},
      {"futures dropped", text(report[Count::abandoned])},
      {"messages", text(report[Count::messages])},
      {"gone with a victim that had them in hand", text(report[Count::in_hand])},
      {"updates under locks", text(report[Count::updates])},
      {"locks recovered from the dead", text(report[Count::recovered])},
      none("lost", lost),
      none("doubled", doubled),
      none("wrong", report[Count::wrong]),
      none("pools broken", report[Count::broken]),
      none("hangs", totals.hangs),
      {"longest time without progress", text(totals.worst_stall, " s")},
      {"roots killed", text(totals.roots_killed), totals.roots_killed > 0},
      {"worst time until all below was killed", text(totals.worst_until_gone, " s")},
      none("processes left", totals.left),
      none("roots that ended badly", totals.ended_badly),
      {"measured", text(report.measured.load()) + " of 2", report.measured == 2},
      both("arena bytes, begin / end", a.memory, b.memory, kSlack + kLeakedByKill * sent.kills()),
      both("descriptors, begin / end", a.descriptors, b.descriptors, kOpenedLate),
      both("threads, begin / end", a.threads, b.threads, 0),
      both("processes, begin / end", a.processes, b.processes, 0),
  };
}

// The same rows as a JSON array of {"what", "figure", "well"}.
void write_json(const std::string& path, const std::vector<Row>& rows) {
  std::ofstream out(path);
  out << "[\n";
  for (std::size_t i = 0; i < rows.size(); ++i)
    out << "  {\"what\": \"" << rows[i].what << "\", \"figure\": \"" << rows[i].figure
        << "\", \"well\": " << (rows[i].well ? "true" : "false") << (i + 1 < rows.size() ? "},\n" : "}\n");
  out << "]\n";
  if (!out.flush()) std::cerr << "soak: cannot write " << path << '\n', std::exit(1);
}

Options parse(int argc, char** argv) {
  Options options;
  auto refuse = [](const std::string& why) {
    std::cerr << "soak: " << why << '\n' << kUsage;
    std::exit(2);
  };
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    auto value = [&] {
      if (++i == argc) refuse(std::string(argument) + " needs a value");
      return std::string(argv[i]);
    };
    try {
      if (argument == "--seed") options.seed = std::stoull(value());
      else if (argument == "--rate") options.rate = std::stod(value());
      else if (argument == "--json") options.json = value();
      else if (argument == "--gone-within") options.gone_within = std::stod(value());
      else options.seconds = std::stod(std::string(argument));
    } catch (const std::logic_error&) {
      refuse("what is " + std::string(argv[i]) + "?");
    }
  }
  if (!(options.seconds > 0 && options.rate > 0)) refuse("seconds and rate are positive");
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  mp::freeze_support();
  const Options options = parse(argc, argv);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);  // orphans come here, not to init
  ::setvbuf(stdout, nullptr, _IOLBF, 0);

  Totals totals;
  const auto start = Clock::now();
  soak::Killer killer(options.seed, options.rate);
  soak::Report& report = *new_report();
  attend(start_root(report, options.seed, options.seconds * (1 - kRootsPart)), report, killer, 0s, options, totals);
  std::mt19937_64 random(options.seed);
  const auto roots_end = Clock::now() + Seconds(options.seconds * kRootsPart);
  while (totals.hangs == 0 && Clock::now() < roots_end) {
    soak::Report& doomed = *new_report();  // what it had not finished is no loss
    const std::uint64_t seed = random();
    attend(start_root(doomed, seed, 0), doomed, killer, std::chrono::milliseconds(20 + random() % 800), options,
           totals);
    for (const Count wrong : {Count::lost, Count::doubled, Count::wrong, Count::broken})
      report.add(wrong, doomed[wrong]);
    ::munmap(&doomed, sizeof doomed);
  }
  totals.seconds = Seconds(Clock::now() - start).count();

  const std::vector<Row> rows = make_table(options, totals, killer.sent(), report);
  std::cout << "| what | figure |\n|---|---|\n";
  bool well = true;
  for (const Row& row : rows) {
    std::cout << "| " << row.what << " | " << row.figure << (row.well ? "" : " (!)") << " |\n";
    well &= row.well;
  }
  if (!options.json.empty()) write_json(options.json, rows);
  std::cout << (well ? "all is exact and flat\n" : "NOT exact or not flat: see (!)\n");
  return well ? 0 : 1;
}
