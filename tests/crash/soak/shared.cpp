#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "workload.hpp"

namespace soak {
namespace {

constexpr std::size_t kWriters = 3;
constexpr std::uint64_t kUpdates = 400;
using Counters = mp::RawArray<std::uint64_t>;

struct Pair {
  std::uint64_t first = 0, second = 0;  // the same, unless somebody is in between
};

constexpr int kSawTorn = 3;

// In the middle of an update now and then, so that deaths come there.
void linger(std::uint64_t now) {
  if (now % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
}

// Runs `update` under the lock of `object`. After a dead owner it repairs first. Returns how often it had to.
template <class Object, class Repair, class Update>
std::uint64_t under_lock(Object& object, Repair&& repair, Update&& update) {
  for (std::uint64_t recovered = 0;;) {
    try {
      std::scoped_lock guard(object);
      update();
      return recovered;
    } catch (const mp::OwnerDied&) {
      recovered += object.get_lock().recover(repair);
    }
  }
}

struct UpdatePair {
  std::uint64_t operator()(mp::Value<Pair>& pair, bool& torn) const {
    Pair& p = pair.get_obj();
    return under_lock(
        pair, [&] { p.second = p.first; },
        [&] {
          torn |= p.first != p.second;
          ++p.first;
          linger(p.first);
          p.second = p.first;
        });
  }
};

struct UpdateArray {
  std::uint64_t operator()(mp::Array<std::uint64_t>& array, bool& torn) const {
    return under_lock(
        array, [&] { std::fill(array.begin(), array.end(), array[0]); },
        [&] {
          const std::uint64_t now = array[0];
          torn |= std::any_of(array.begin(), array.end(), [now](std::uint64_t x) { return x != now; });
          for (std::size_t i = 0; i < array.size(); ++i) {
            if (i == now % array.size()) linger(now);
            std::atomic_ref(array[i]).store(now + 1, std::memory_order_relaxed);
          }
        });
  }
};

template <class Object, class Update>
void write(Object object, Update update, mp::Value<std::uint64_t> total, Counters done, Counters recovered,
           std::size_t me) {
  bool torn = false;
  for (std::uint64_t i = 0; i < kUpdates && !torn; ++i) {
    const std::uint64_t repairs = update(object, torn);
    total += 1;
    std::atomic_ref(done[me]).store(i + 1, std::memory_order_release);
    std::atomic_ref(recovered[me]).fetch_add(repairs, std::memory_order_relaxed);
  }
  if (torn) std::exit(kSawTorn);
}

// Several processes count in one object; those that die may have counted once more than they say, nobody less.
template <class Object, class Update, class Read>
void run_writers(Report& report, Random& random, Object object, Update update, Read read) {
  mp::Value<std::uint64_t> total(0);
  const Counters done(kWriters), recovered(kWriters);
  std::vector<mp::Process> writers;
  for (std::size_t i = 0; i < kWriters; ++i)
    writers.push_back(
        start(report, any_context(random), write<Object, Update>, object, update, total, done, recovered, i));
  std::uint64_t dead = 0, said = 0, repairs = 0;
  for (std::size_t i = 0; i < kWriters; ++i) {
    writers[i].join();
    if (writers[i].exitcode() == kSawTorn) report.blame(Count::wrong, "torn data without OwnerDied");
    if (writers[i].exitcode() != 0) ++dead;
    said += std::atomic_ref(done[i]).load();
    repairs += std::atomic_ref(recovered[i]).load();
    report.go_on();
  }
  bool torn = false;
  repairs += update(object, torn);
  ++said;
  const std::uint64_t counted = read(object);
  if (torn || counted < said || counted > said + dead) report.blame(Count::wrong, "a wrong count under a lock");
  if (total + 1 < said || total + 1 > said + dead) report.blame(Count::wrong, "a wrong count of an atomic value");
  report.add(Count::updates, counted);
  report.add(Count::recovered, repairs);
}

}  // namespace

void values(Report& report, Random& random) {
  mp::Value<Pair> pair = random() % 2 ? mp::Value<Pair>() : mp::Value<Pair>(Pair(), mp::Lock());
  run_writers(report, random, pair, UpdatePair(), [](mp::Value<Pair>& p) { return p.get().second; });
}

void arrays(Report& report, Random& random) {
  run_writers(report, random, mp::Array<std::uint64_t>(200), UpdateArray(),
              [](mp::Array<std::uint64_t>& a) { return a[a.size() - 1]; });
}

}  // namespace soak
