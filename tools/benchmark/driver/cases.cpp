// The table of cases. Names are AREA/WHAT; --list prints them.
#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "case.hpp"

namespace {

using std::optional;

// ---- conditions -----------------------------------------------------------------------------------------------------

Condition at_most(double limit) {
  return {.text = fmt::format("≤ {:g}", limit), .limit = [=](const Row&) { return optional(limit); }};
}

Condition at_least(double limit) {
  return {.text = fmt::format("≥ {:g}", limit), .limit = [=](const Row&) { return optional(limit); }, .at_least = true};
}

// Nobody is faster than the floor: where ours seems to be, the floor was disturbed (by another program, or by where the
// kernel put its two sides), and nothing can be said.
constexpr double kDisturbed = 0.9;

Condition at_most_floors(double times) {
  return {.text = fmt::format("≤ {:.4g} × floor", times),
          .limit = [=](const Row& row) { return row.floor() ? optional(times * *row.floor()) : std::nullopt; },
          .against_floor = true};
}

// At most `times` the best of these rivals (all of them if none is named).
Condition at_most_rivals(double times, std::vector<std::string> names = {}, const std::string& called = "best rival") {
  std::string text = times == 1  ? "≤ " + called
                     : times < 1 ? fmt::format("≤ {} / {:.4g}", called, 1 / times)
                                 : fmt::format("≤ {:.4g} × {}", times, called);
  return {.text = text, .limit = [=](const Row& row) {
            optional<double> best;
            for (const Measurement& rival : row.rivals) {
              if (!rival.value) continue;
              if (names.empty() || std::find(names.begin(), names.end(), rival.name) != names.end())
                best = std::min(best.value_or(*rival.value), *rival.value);
            }
            return best ? optional(times * *best) : std::nullopt;
          }};
}

// ---- cases ----------------------------------------------------------------------------------------------------------

const std::vector<std::string> kFuturePools = {"Boost.Asio", "oneTBB", "textbook pool", "std::async"};

// Of parked round trips.
const std::vector<Contender> kParkedFloors = {{"futex", "floors", "parked"},
                                              {"futex, 20 ms slices", "floors", "parked-slices"},
                                              {"futex, two cores", "floors", "parked-two-cores"}};

std::vector<Case> pool_cases() {
  return {
      {.name = "pool/stream",
       .unit = "ns/task",
       .ours = {{"mp", "ours", "stream"}},
       .rivals = {{"Boost.Asio", "asio_pool", "stream"},
                  {"oneTBB", "tbb_pool", "stream"},
                  {"textbook pool", "std_pool", "textbook-stream"},
                  {"std::async", "std_pool", "async-stream"},
                  {"Python futures", "python_pool.py", "stream"},
                  {"joblib", "python_pool.py", "joblib-stream"}},
       .floors = {{"rings there and back", "floors", "ring-and-back"}},
       .target = {at_most(150), at_most_rivals(1. / 3, kFuturePools, "future pools"),
                  at_most_rivals(1e-3, {"Python futures"}, "Python")}},
      {.name = "pool/round-trip-awake",
       .unit = "ns",
       .ours = {{"mp", "ours", "awake"}},
       .rivals = {{"Boost.Asio", "asio_pool", "awake"},
                  {"oneTBB", "tbb_pool", "awake"},
                  {"textbook pool", "std_pool", "textbook-awake"},
                  {"std::async", "std_pool", "async-awake"},
                  {"Python futures", "python_pool.py", "awake"}},
       .floors = {{"spinning line", "floors", "spin"}},
       .target = {at_most(1500), at_most_floors(4)}},
      {.name = "pool/round-trip-parked",
       .unit = "ns",
       .ours = {{"mp", "ours", "parked"}},
       .rivals = {{"Boost.Asio", "asio_pool", "parked"},
                  {"oneTBB", "tbb_pool", "parked"},
                  {"textbook pool", "std_pool", "textbook-parked"},
                  {"std::async", "std_pool", "async-parked"},
                  {"Python futures", "python_pool.py", "parked"}},
       .floors = kParkedFloors,
       .target = {at_most_floors(1.15)},
       .possible = "futex, 20 ms slices"},
      {.name = "pool/round-trip-same-core",
       .unit = "ns",
       .ours = {{"mp", "ours", "same-core"}},
       .floors = {{"futex", "floors", "same-core"}}},
      {.name = "pool/map-ints",
       .unit = "ns/item",
       .ours = {{"mp", "ours", "map-ints"}},
       .rivals = {{"oneTBB", "tbb_pool", "map-ints"},
                  {"OpenMP", "openmp_pool", "map-ints"},
                  {"Python Pool", "python_pool.py", "map-ints"},
                  {"joblib", "python_pool.py", "joblib-map-ints"}},
       .floors = {{"serial loop", "floors", "map-ints"}, {"a copy, then oneTBB", "tbb_pool", "map-ints-copied"}},
       .target = {at_most(10), at_most_rivals(1.3, {"oneTBB"}, "oneTBB")},
       .possible = "a copy, then oneTBB"},
      {.name = "pool/map-array",
       .unit = "ns/item",
       .ours = {{"mp", "ours", "map-array"}},
       .rivals = {{"oneTBB", "tbb_pool", "map-ints"}, {"OpenMP", "openmp_pool", "map-ints"}},
       .floors = {{"serial loop", "floors", "map-ints"}},
       .target = {at_most(10), at_most_rivals(1.3, {"oneTBB"}, "oneTBB")}},
      {.name = "pool/map-strings",
       .unit = "ns/item",
       .ours = {{"mp", "ours", "map-strings"}},
       .rivals = {{"Python Pool", "python_pool.py", "map-strings"}},
       .target = {at_most(200)}},
      {.name = "pool/map-structs",
       .unit = "ns/item",
       .ours = {{"mp", "ours", "map-structs"}},
       .rivals = {{"Python Pool", "python_pool.py", "map-structs"}},
       .target = {at_most(200)}},
      {.name = "pool/prime",
       .unit = "ms",
       .ours = {{"mp", "ours", "prime"}},
       .rivals = {{"oneTBB", "tbb_pool", "prime"}, {"OpenMP", "openmp_pool", "prime"}},
       .floors = {{"serial / workers", "floors", "prime"}},
       .target = {at_most_rivals(1 / 0.98, {"oneTBB"}, "oneTBB")}},
  };
}

std::vector<Contender> channel_rivals(const std::string& test, bool with_mpi = true) {
  std::vector<Contender> rivals = {{"message_queue", "interprocess_channel", test}, {"ZeroMQ", "zmq_channel", test}};
  if (with_mpi) rivals.push_back({"Open MPI", "mpi_channel", test});
  std::string what = test.substr(test.find('-'));
  rivals.push_back({"pipe", "os_channel", "pipe" + what});
  rivals.push_back({"Unix socket", "os_channel", "socket" + what});
  rivals.push_back({"Python", "python_channel.py", test});
  return rivals;
}

std::vector<Case> channel_cases() {
  return {
      {.name = "queue/one-to-one",
       .unit = "ns/message",
       .ours = {{"mp", "ours", "queue-1to1"}},
       .rivals = channel_rivals("queue-1to1"),
       .floors = {{"ideal ring", "floors", "ring"}},
       .target = {at_most(50), at_most_rivals(1)}},
      {.name = "queue/two-to-two",
       .unit = "ns/message",
       .ours = {{"mp", "ours", "queue-2to2"}},
       .rivals = channel_rivals("queue-2to2", false),
       .floors = {{"ideal ring, 1 to 1", "floors", "ring"}},
       .target = {at_most(120), at_most_rivals(1)}},
      {.name = "queue/1-KiB",
       .unit = "ns/message",
       .ours = {{"mp", "ours", "queue-kib"}},
       .rivals = channel_rivals("queue-kib"),
       .floors = {{"memcpy, core to core", "floors", "memcpy-kib"},
                  {"ideal ring", "floors", "ring-kib"},
                  {"memcpy, one core", "floors", "memcpy-one-core"}},
       .target = {at_most_floors(1 / 0.6)}},
      {.name = "pipe/round-trip-awake",
       .unit = "ns",
       .ours = {{"mp", "ours", "pipe-awake"}},
       .rivals = channel_rivals("pipe-awake"),
       .floors = {{"spinning line", "floors", "spin"}},
       .target = {at_most_rivals(1.3, {"Open MPI"}, "Open MPI")}},
      {.name = "pipe/round-trip-parked",
       .unit = "ns",
       .ours = {{"mp", "ours", "pipe-parked"}},
       .rivals = channel_rivals("pipe-parked", false),
       .floors = kParkedFloors,
       .target = {at_most_floors(1.15)},
       .possible = "futex, 20 ms slices"},
      {.name = "pipe/round-trip-same-core",
       .unit = "ns",
       .ours = {{"mp", "ours", "pipe-same-core"}},
       .floors = {{"futex", "floors", "same-core"}}},
      {.name = "pipe/stream",  // 20 million a second
       .unit = "ns/message",
       .ours = {{"mp", "ours", "pipe-stream"}},
       .rivals = {{"Open MPI", "mpi_channel", "queue-1to1"},
                  {"pipe", "os_channel", "pipe-1to1"},
                  {"Unix socket", "os_channel", "socket-1to1"},
                  {"Python", "python_channel.py", "pipe-stream"}},
       .floors = {{"ideal ring", "floors", "ring"}},
       .target = {at_most(50)}},
      {.name = "lock/Lock",
       .unit = "ns",
       .ours = {{"mp", "locks", "lock"}},
       .rivals = {{"std::mutex, threads only", "locks", "std-mutex"},
                  {"robust pthread mutex", "locks", "robust-mutex"},
                  {"Boost.Interprocess", "locks", "boost-mutex"},
                  {"Python", "python_channel.py", "lock"}},
       .floors = {{"exchange and store", "locks", "exchange"}},
       .target = {at_most(10)}},
      {.name = "lock/RLock",
       .unit = "ns",
       .ours = {{"mp", "locks", "rlock"}},
       .rivals = {{"std::recursive_mutex, threads only", "locks", "std-recursive-mutex"},
                  {"Python", "python_channel.py", "rlock"}},
       .floors = {{"exchange and store", "locks", "exchange"}},
       .target = {at_most(12)}},
      {.name = "lock/Value-add",
       .unit = "ns",
       .ours = {{"mp", "locks", "value"}},
       .rivals = {{"Python", "python_channel.py", "value"}},
       .floors = {{"std::atomic", "locks", "atomic"}},
       .target = {at_most(10)}},
  };
}

// ---- combined figures -----------------------------------------------------------------------------------------------

double last_to_first(const std::vector<double>& parts) { return parts.back() / parts.front(); }
double most_to_least(const std::vector<double>& parts) {
  auto [least, most] = std::minmax_element(parts.begin(), parts.end());
  return *most / *least;
}
double least_percent_of_best(const std::vector<double>& parts) { return 100 / most_to_least(parts); }
double percent_more(const std::vector<double>& parts) { return 100 * (last_to_first(parts) - 1); }

std::vector<Case> process_cases() {
  return {
      {.name = "process/fork",
       .unit = "µs",
       .ours = {{"mp", "ours", "fork"}},
       .rivals = {{"Python", "python_channel.py", "fork"}},
       .floors = {{"bare fork", "ours", "bare-fork"}, {"fork that can be told of", "ours", "told-fork"}},
       .target = {at_most_floors(1.2)},
       .possible = "fork that can be told of"},
      {.name = "process/fork-one-cpu",
       .unit = "µs",
       .ours = {{"mp", "ours", "fork-one-cpu"}},
       .floors = {{"bare fork", "ours", "bare-fork-one-cpu"},
                  {"fork that can be told of", "ours", "told-fork-one-cpu"}},
       .target = {at_most_floors(1.2)},
       .possible = "fork that can be told of"},
      {.name = "process/fork-1-GiB-heap",
       .unit = "µs",
       .ours = {{"mp", "ours", "fork-large"}},
       .floors = {{"bare fork", "ours", "bare-fork-large"}}},
      {.name = "process/spawn",
       .unit = "µs",
       .ours = {{"mp", "ours", "spawn"}},
       .rivals = {{"Python", "python_channel.py", "spawn"}},
       .floors = {{"bare posix_spawn", "ours", "bare-spawn"}},
       .target = {at_most_floors(1.25)}},
      {.name = "process/forkserver",
       .unit = "µs",
       .ours = {{"mp", "ours", "forkserver"}},
       .rivals = {{"Python", "python_channel.py", "forkserver"}},
       .floors = {{"bare fork", "ours", "bare-fork"}}},
      {.name = "process/forkserver-1-GiB-heap",
       .unit = "× small",
       .ours = {{"small parent, µs", "ours", "forkserver"}, {"1 GiB parent, µs", "ours", "forkserver-large"}},
       .target = {at_most(1.3)},
       .combine = last_to_first},
      {.name = "data/array-1-GiB",
       .unit = "µs",
       .ours = {{"mp", "ours", "array"}},
       .rivals = {{"copied through pipes", "os_channel", "block"}},
       .target = {at_most(100)}},
      {.name = "data/vector-64-MiB",
       .unit = "µs",
       .ours = {{"mp", "ours", "vector"}},
       .floors = {{"memcpy twice", "ours", "vector-floor"}}},
  };
}

std::vector<Case> memory_cases() {
  return {
      {.name = "memory/queued-task",
       .unit = "bytes",
       .ours = {{"mp", "ours", "queued-bytes"}},
       .target = {at_most(320)}},
      {.name = "memory/idle-worker-of-64",
       .unit = "KiB",
       .ours = {{"mp", "ours", "idle-private"}},
       .target = {at_most(1024)}},
      {.name = "memory/idle-cpu-of-64",  // none, within what looking at it costs
       .unit = "µs/s",
       .ours = {{"mp", "ours", "idle-cpu"}},
       .target = {at_most(100)}},
      {.name = "growth/workers",
       .unit = "% of best",
       .ours = {{"1, tasks/s", "ours", "workers-1"},
                {"2, tasks/s", "ours", "workers-2"},
                {"4, tasks/s", "ours", "workers-4"},
                {"8, tasks/s", "ours", "workers-8"},
                {"16, tasks/s", "ours", "workers-16"},
                {"64, tasks/s", "ours", "workers-64"}},
       .target = {at_least(60)},
       .more_is_better = true,
       .combine = least_percent_of_best},
      {.name = "growth/prime",
       .unit = "× one",
       .ours = {{"a worker a CPU, ms", "ours", "prime-on-all"}, {"one worker, ms", "ours", "prime-on-one"}},
       .floors = {{"perfect", "ours", "cpus"}},
       .more_is_better = true,
       .combine = last_to_first},
      {.name = "growth/queued",  // flat: half as much again at most
       .unit = "most/least",
       .ours = {{"10^3, ns/task", "ours", "queued-1e3"},
                {"10^4, ns/task", "ours", "queued-1e4"},
                {"10^5, ns/task", "ours", "queued-1e5"},
                {"10^6, ns/task", "ours", "queued-1e6"},
                {"10^7, ns/task", "ours", "queued-1e7"}},
       .floors = {{"a line a task", "floors", "queued"}},
       .target = {at_most(1.5)},
       .combine = most_to_least},
      {.name = "growth/queued-first",  // their memory comes from the kernel meanwhile
       .unit = "most/least",
       .ours = {{"10^4, ns/task", "ours", "queued-first-1e4"},
                {"10^5, ns/task", "ours", "queued-first-1e5"},
                {"10^6, ns/task", "ours", "queued-first-1e6"},
                {"10^7, ns/task", "ours", "queued-first-1e7"}},
       .floors = {{"a line a task", "floors", "queued-first"}},
       .target = {at_most(1.5)},
       .possible = "a line a task",
       .combine = most_to_least},
      {.name = "beside/idle-pool",
       .unit = "% slower",
       .ours = {{"alone, ms", "ours", "beside-alone"}, {"beside, ms", "ours", "beside-idle"}},
       .target = {at_most(5)},
       .combine = percent_more},
      {.name = "beside/waiting-for-result",
       .unit = "% slower",
       .ours = {{"alone, ms", "ours", "beside-alone"}, {"beside, ms", "ours", "beside-waiting"}},
       .target = {at_most(5)},
       .combine = percent_more},
      {.name = "beside/task-every-ms",
       .unit = "% slower",
       .ours = {{"alone, ms", "ours", "beside-alone"}, {"beside, ms", "ours", "beside-trickle"}},
       .combine = percent_more},
  };
}

}  // namespace

optional<bool> Condition::holds(const Row& row) const {
  auto to_keep = limit(row);
  if (!row.ours.value || !to_keep) return {};
  if (against_floor && row.ratio_to_floor().value_or(0) < kDisturbed) return {};
  return at_least ? *row.ours.value >= *to_keep : *row.ours.value <= *to_keep;
}

const Measurement* Row::best_rival() const {
  const Measurement* best = nullptr;
  for (const Measurement& rival : rivals) {
    if (!rival.value) continue;
    if (!best || (of->more_is_better ? *rival.value > *best->value : *rival.value < *best->value)) best = &rival;
  }
  return best;
}

optional<double> Row::ratio_to_best_rival() const {
  const Measurement* best = best_rival();
  if (!best || !ours.value || *best->value == 0) return {};
  return *ours.value / *best->value;
}

optional<double> Row::ratio_to(const Measurement& floor) const {
  if (!ours.value || floor.value.value_or(0) == 0) return {};
  return *ours.value / *floor.value;
}

optional<bool> Row::met() const {
  if (of->target.empty() || quick) return {};
  bool unknown = false;
  for (const Condition& condition : of->target) {
    auto holds = condition.holds(*this);
    if (!holds) unknown = true;
    else if (!*holds) return false;
  }
  if (unknown) return {};
  return true;
}

std::optional<double> Row::ratio_to_possible() const {
  for (const Measurement& floor : floors)
    if (floor.name == of->possible) return ratio_to(floor);
  return {};
}

std::string Case::target_text() const {
  std::string text;
  for (const Condition& condition : target) text += (text.empty() ? "" : "; ") + condition.text;
  if (!possible.empty()) text += fmt::format("; else ≤ {:g} × {}", Row::kNear, possible);
  return text;
}

const std::vector<Case>& all_cases() {
  static const std::vector<Case> cases = [] {
    std::vector<Case> all;
    for (auto part : {pool_cases, channel_cases, process_cases, memory_cases}) {
      auto some = part();
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  }();
  return cases;
}
