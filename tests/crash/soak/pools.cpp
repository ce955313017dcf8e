#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "workload.hpp"

namespace soak {
namespace {

using namespace std::chrono_literals;
using Runs = Tickets::Runs;

// ---- what workers run -----------------------------------------------------------------------------------------------

void note_run(const Runs& runs, std::uint32_t ticket) noexcept {
  std::atomic_ref(runs[ticket]).fetch_add(1, std::memory_order_relaxed);
}

void nap(std::uint64_t microseconds) noexcept {
  const timespec time{0, static_cast<long>(microseconds) * 1000};
  ::nanosleep(&time, nullptr);
}

std::uint64_t quick(Runs runs, std::uint32_t ticket, std::uint64_t n) {
  note_run(runs, ticket);
  return mix(n);
}
std::uint64_t slow(Runs runs, std::uint32_t ticket, std::uint64_t n) {
  note_run(runs, ticket);
  nap(n % 8000);
  return mix(n);
}
std::uint64_t thrower(Runs runs, std::uint32_t ticket, std::uint64_t n) {
  note_run(runs, ticket);
  throw std::out_of_range(std::to_string(n));
}
std::uint64_t endless(Runs runs, std::uint32_t ticket, std::uint64_t) {
  note_run(runs, ticket);
  for (;;) ::pause();
}
std::string reversed(Runs runs, std::uint32_t ticket, std::string text) {
  note_run(runs, ticket);
  std::reverse(text.begin(), text.end());
  return text;
}

// What came of the tasks of a pool within a worker of another pool.
struct Inner {
  std::uint64_t values = 0, crashes = 0, others = 0, wrong = 0;
};
constexpr std::uint64_t kInnerItems = 12;

Inner nested_pool(Runs runs, std::uint32_t ticket, std::uint64_t n) {
  note_run(runs, ticket);
  std::vector<std::uint64_t> items;
  for (std::uint64_t i = 0; i < kInnerItems; ++i) items.push_back(n + i);
  Inner inner;
  mp::ProcessPoolExecutor pool(2);
  auto results = pool.map(
      [](std::uint64_t x) {
        nap(x % 1000);
        return mix(x);
      },
      items);
  for (std::uint64_t i = 0; i < kInnerItems; ++i) {
    try {
      inner.wrong += results.next() != mix(n + i);
      ++inner.values;
    } catch (const mp::WorkerCrashed&) {
      ++inner.crashes;
    } catch (const mp::Error&) {
      ++inner.others;
    }
  }
  inner.wrong += results.next().has_value();
  return inner;
}

}  // namespace

// ---- tickets --------------------------------------------------------------------------------------------------------

std::uint32_t Tickets::take() {
  const auto ticket = static_cast<std::uint32_t>(next_++ % kMost);
  check(ticket);
  settled_[ticket] = kUnused;
  runs_[ticket] = 0;
  return ticket;
}

std::uint32_t Tickets::count(std::uint32_t ticket) const noexcept {
  return std::atomic_ref(runs_[ticket]).load(std::memory_order_acquire);
}

void Tickets::settle(std::uint32_t ticket, std::uint32_t least, std::uint32_t most) {
  const std::uint32_t runs = count(ticket);
  if (runs < least) report_.blame(Count::wrong, "a task has a value but did not run");
  if (runs > most) report_.blame(Count::doubled, "a task ran more often than it may");
  settled_[ticket] = runs + 1;
}

void Tickets::check(std::uint32_t ticket) {
  const std::uint32_t runs = count(ticket), then = settled_[ticket];
  if (then == kAbandoned ? runs > 1 : then != kUnused && runs != then - 1)
    report_.blame(Count::doubled, "a task ran after its outcome was known");
}

void Tickets::check_all() {
  for (std::uint32_t ticket = 0; ticket < kMost; ++ticket) check(ticket);
}

// ---- outcomes -------------------------------------------------------------------------------------------------------

Pools::Pools(Report& report) : report_(report), tickets_(report), pool_(kWorkers) {
  for (const mp::StartMethod method : {mp::fork, mp::spawn, mp::forkserver})
    executors_.push_back(mp::ProcessPoolExecutor({.max_workers = kWorkers, .mp_context = method}));
}

// Waits for a task and enters its one outcome. `attempts`: how often it may have run. `may_fail`: with an exception of its own; then
// `check` is asked with nothing.
template <class R, class Check>
void Pools::settle(mp::Future<R>& future, std::uint32_t ticket, std::uint32_t attempts, bool may_fail, Check&& check) {
  std::uint32_t least = 0;
  try {
    const R value = future.result();
    report_.add(Count::values);
    if (may_fail || !check(value)) report_.blame(Count::wrong, "a wrong value");
    least = 1;
  } catch (const mp::WorkerCrashed&) {
    report_.add(Count::crashes);
  } catch (const mp::CancelledError&) {
    report_.add(Count::cancelled);
  } catch (const mp::TimeoutError&) {
    report_.add(Count::timed_out);
  } catch (const mp::BrokenProcessPool& e) {
    report_.add(Count::exceptions);
    report_.blame(Count::broken, e.what());
  } catch (const std::out_of_range&) {
    report_.add(Count::exceptions);
    if (!may_fail) report_.blame(Count::wrong, "an exception that nobody threw");
    least = 1;
  } catch (const std::exception& e) {
    report_.add(Count::exceptions);
    report_.blame(Count::wrong, e.what());
  }
  tickets_.settle(ticket, least, attempts);
  report_.go_on();
}

void Pools::tasks(Random& random) {
  enum class Kind { quick, slow, thrower, retried, large, endless, killed, cancelled, abandoned, called_back };
  struct Task {
    Kind kind;
    std::uint32_t ticket;
    std::uint64_t n;
    std::string text;
    mp::Future<std::uint64_t> number;
    mp::Future<std::string> large;
  };
  mp::ProcessPoolExecutor& pool = any(random);
  std::vector<Task> tasks;
  std::uint64_t to_call_back = 0;
  const std::uint64_t called_back = called_back_.load();
  for (std::uint64_t left = 10 + random() % 60; left > 0; --left) {
    const std::uint64_t dice = random() % 100;
    const Kind kind = dice < 40   ? Kind::quick
                      : dice < 60 ? Kind::slow
                      : dice < 68 ? Kind::thrower
                      : dice < 76 ? Kind::retried
                      : dice < 84 ? Kind::large
                      : dice < 86 ? Kind::endless
                      : dice < 88 ? Kind::killed
                      : dice < 92 ? Kind::cancelled
                      : dice < 96 ? Kind::abandoned
                                  : Kind::called_back;
    Task task{kind, tickets_.take(), random(), {}, {}, {}};
    const Runs& runs = tickets_.runs();
    switch (kind) {
      case Kind::slow:
      case Kind::called_back: task.number = pool.submit(slow, runs, task.ticket, task.n); break;
      case Kind::thrower: task.number = pool.submit(thrower, runs, task.ticket, task.n); break;
      case Kind::retried:
        task.number = pool.submit(mp::TaskOptions{.retries = 3}, slow, runs, task.ticket, task.n);
        break;
      case Kind::large:
        task.text.assign(random() % 20'000 * (random() % 10 == 0 ? 20 : 1), 'a');
        for (std::size_t i = 0; i < task.text.size(); i += 97) task.text[i] = static_cast<char>('a' + i % 23);
        task.large = pool.submit(reversed, runs, task.ticket, task.text);
        break;
      case Kind::endless:
        task.number = pool.submit(mp::TaskOptions{.timeout = 20ms}, endless, runs, task.ticket, task.n);
        break;
      case Kind::killed: task.number = pool.submit(endless, runs, task.ticket, task.n); break;
      case Kind::abandoned:
        static_cast<void>(pool.submit(slow, runs, task.ticket, task.n));
        tickets_.abandon(task.ticket);
        report_.add(Count::abandoned);
        continue;
      default: task.number = pool.submit(quick, runs, task.ticket, task.n);
    }
    report_.add(Count::submitted);
    if (kind == Kind::called_back) {
      ++to_call_back;
      task.number.add_done_callback([this](mp::Future<std::uint64_t>&) { ++called_back_; });
    }
    if (kind == Kind::cancelled && task.number.cancel() && tickets_.count(task.ticket) != 0)
      report_.blame(Count::wrong, "a cancelled task ran");
    tasks.push_back(std::move(task));
  }
  for (Task& task : tasks) {
    auto right = [&](std::uint64_t value) { return value == mix(task.n); };
    switch (task.kind) {
      case Kind::large:
        settle(task.large, task.ticket, 1, false, [&](const std::string& value) {
          return std::equal(value.rbegin(), value.rend(), task.text.begin(), task.text.end());
        });
        break;
      case Kind::killed:
        // While it waits in line this cancels it, while it runs it kills its worker; in between it is asked again.
        while (!task.number.done() && !task.number.kill()) nap(200);
        settle(task.number, task.ticket, 1, false, [](std::uint64_t) { return false; });
        break;
      case Kind::endless: settle(task.number, task.ticket, 1, false, [](std::uint64_t) { return false; }); break;
      case Kind::thrower: settle(task.number, task.ticket, 1, true, right); break;
      case Kind::retried: settle(task.number, task.ticket, 4, false, right); break;
      default: settle(task.number, task.ticket, 1, false, right);
    }
  }
  tasks.clear();
  // Callbacks come from the supervisor, after the task is seen to be done: wait, the watchdog has its eye on it.
  while (called_back_.load() < called_back + to_call_back) nap(100);
  if (called_back_.load() > called_back + to_call_back) report_.blame(Count::doubled, "a callback came twice");
}

// Every item of a map has an outcome of its own.
template <class Result, class Check>
void Pools::settle_items(Result& results, std::uint32_t first, std::size_t count, Check&& check) {
  report_.add(Count::submitted, count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t ticket = static_cast<std::uint32_t>((first + i) % Tickets::kMost);
    std::uint32_t least = 0;
    try {
      auto value = results.next();
      if (!value) {
        report_.blame(Count::lost, "a map ended early", count - i);
        return;
      }
      report_.add(Count::values);
      if (!check(i, *value)) report_.blame(Count::wrong, "a wrong value");
      least = 1;
    } catch (const mp::WorkerCrashed&) {
      report_.add(Count::crashes);
    } catch (const mp::BrokenProcessPool& e) {
      report_.add(Count::exceptions);
      report_.add(Count::broken);
      std::fprintf(stderr, "soak: %s\n", e.what());
    } catch (const std::exception& e) {
      report_.add(Count::exceptions);
      report_.blame(Count::wrong, e.what());
    }
    tickets_.settle(ticket, least, 1);
    report_.go_on();
  }
  if (results.next()) report_.blame(Count::doubled, "a map gave more than it got");
}

void Pools::map(Random& random) {
  const std::size_t count = 50 + random() % 2000;
  std::vector<std::uint64_t> items(count);
  for (auto& item : items) item = random();
  std::uint32_t first = tickets_.take();
  for (std::size_t i = 1; i < count; ++i) tickets_.take();
  const bool ordered = random() % 2;
  auto f = [runs = tickets_.runs(), first, items = items.front()](std::uint64_t index, std::uint64_t n) {
    note_run(runs, static_cast<std::uint32_t>((first + index) % Tickets::kMost));
    if (n % 64 == 0) nap(n % 2000);
    return mix(n ^ items);
  };
  std::vector<std::uint64_t> indices(count);
  for (std::size_t i = 0; i < count; ++i) indices[i] = i;
  const mp::MapOptions options{.chunksize = random() % 3 * 8};
  auto results = ordered ? any(random).map(options, f, indices, items)
                         : pool_.imap(
                               {.chunksize = 16},
                               [f](std::pair<std::uint64_t, std::uint64_t> p) mutable { return f(p.first, p.second); },
                               [&] {
                                 std::vector<std::pair<std::uint64_t, std::uint64_t>> pairs;
                                 for (std::size_t i = 0; i < count; ++i) pairs.emplace_back(indices[i], items[i]);
                                 return pairs;
                               }());
  settle_items(results, first, count,
               [&](std::size_t i, std::uint64_t v) { return v == mix(items[i] ^ items.front()); });
}

void Pools::strings(Random& random) {
  const std::size_t count = 20 + random() % 200;
  std::vector<std::pair<std::uint32_t, std::string>> items;
  for (std::size_t i = 0; i < count; ++i)
    items.emplace_back(tickets_.take(), std::string(random() % 3000, static_cast<char>('a' + i % 26)) + "z");
  auto results = any(random).map(
      [runs = tickets_.runs()](std::pair<std::uint32_t, std::string> item) {
        return reversed(runs, item.first, std::move(item.second));
      },
      items);
  settle_items(results, items.front().first, count, [&](std::size_t i, const std::string& value) {
    const std::string& text = items[i].second;
    return std::equal(value.rbegin(), value.rend(), text.begin(), text.end());
  });
}

void Pools::nested(Random& random) {
  mp::ProcessPoolExecutor& pool = any(random);
  struct Task {
    std::uint32_t ticket;
    mp::Future<Inner> future;
  };
  std::vector<Task> tasks;
  for (int i = 0; i < 2; ++i) {
    const std::uint32_t ticket = tickets_.take();
    tasks.push_back({ticket, pool.submit(&nested_pool, tickets_.runs(), ticket, random())});
    report_.add(Count::submitted);
  }
  for (Task& task : tasks)
    settle(task.future, task.ticket, 1, false, [&](const Inner& inner) {
      report_.add(Count::submitted, kInnerItems);
      report_.add(Count::values, inner.values);
      report_.add(Count::crashes, inner.crashes);
      report_.add(Count::exceptions, inner.others);
      if (inner.others) report_.blame(Count::broken, "an inner pool gave up", inner.others);
      return inner.wrong == 0;
    });
}

void Pools::settle_down() {
  auto crash = [](auto&& submit) {
    try {
      submit();
    } catch (const mp::WorkerCrashed&) {}
  };
  crash([&] { pool_.apply([] { ::raise(SIGKILL); }); });
  static_cast<void>(pool_.map([](int) {}, std::vector<int>(8)));
  for (mp::ProcessPoolExecutor& executor : executors_) {
    crash([&] { executor.submit([] { ::raise(SIGKILL); }).result(); });
    executor.submit([] {}).result();
  }
}

}  // namespace soak
