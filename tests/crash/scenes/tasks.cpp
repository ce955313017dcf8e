// Tasks: a worker that claims, runs and publishes; an owner that posts, cancels and waits.
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "mp/errors.hpp"
#include "mp/future.hpp"
#include "mp/memory/family.hpp"
#include "mp/pickle/crashed.hpp"
#include "pools.hpp"

namespace crash {

void await_nobody() {
  await(
      [] {
        while (::waitpid(-1, nullptr, WNOHANG) > 0) {}
        std::ifstream children("/proc/self/task/" + std::to_string(::getpid()) + "/children");
        std::string one;
        return !(children >> one);
      },
      "processes that should end with their owner");
}

namespace {

// What a task gives: a number, or with a large one before it.
template <class R>
R result(int number);
template <>
int result<int>(int number) {
  return number;
}
template <>
std::string result<std::string>(int number) {
  return std::string(9000, static_cast<char>('a' + number));
}

template <class R>
R first_task() {
  R mine = result<R>(7);
  await_stepper();
  begin();
  return mine;
}
int failing_task() {
  await_stepper();
  begin();
  throw std::runtime_error("on purpose");
}
int write_too_much() {
  const int file = ::memfd_create("too much", MFD_CLOEXEC);
  await_stepper();
  begin();
  static_cast<void>(::pwrite(file, "x", 1, 100));
  return 0;
}
int second_task() {
  stage->word[1].fetch_add(1);
  end();
  return 8;
}
int third_task() { return 9; }

// Its value, or nothing if it was the victim's last.
template <class R>
std::optional<R> outcome(mp::Future<R>& future, const std::string& what) {
  try {
    return future.result(kLimit);
  } catch (const mp::WorkerCrashed& crash) {
    expect(crash.pid() == stage->pid, what + " is charged with the crash of another worker");
    return {};
  } catch (const mp::TimeoutError&) {
    throw Violation("hangs: result() of " + what);
  }
}

void go_on(Pool& pool) {
  auto third = pool->submit(third_task);
  expect_equal(outcome(third, "a later task").value_or(0), 9, "a later task's value");
}

template <class R>
void add_worker(Scenes& scenes, const std::string& what, const mp::TaskOptions& options, R (*task)() = first_task<R>) {
  scenes.push_back({"tasks", "worker: publish " + what + ", claim the next", [=, pool = std::make_shared<Pool>(1)] {
                      auto first = (*pool)->submit(options, task);
                      auto second = (*pool)->submit(second_task);
                      return Act{.survive =
                                     [=](Fate fate) mutable {
                                       std::optional<R> one;
                                       bool failed = false;
                                       try {
                                         one = outcome(first, "the first task");
                                       } catch (const std::runtime_error& e) {
                                         if (std::string(e.what()).find("on purpose") == std::string::npos) throw;
                                         failed = true;
                                       }
                                       expect(!one || *one == result<R>(7), "the first task's value is torn");
                                       expect(!failed || task != first_task<R>, "an exception that nobody threw");
                                       const std::optional<int> two = outcome(second, "the second task");
                                       expect(!two || *two == 8, "the second task's value is torn");
                                       const bool first_ended = one || failed;
                                       expect(first_ended || !options.retries, "a task was not tried again");
                                       expect(first_ended || two, "two tasks were lost with one worker");
                                       expect(first_ended || !fate.finished, "a task that was done is lost");
                                       expect(!two || stage->word[1] == 1, "a task ran twice or never");
                                       go_on(*pool);
                                     },
                                 .victim = worker_on_stage};
                    }});
}

// The owner is the victim: its pool lives below it and ends with it.
void add_owner(Scenes& scenes, const std::string& what, std::function<void(mp::ProcessPoolExecutor&)> prepare,
               std::function<void(mp::ProcessPoolExecutor&)> operation) {
  scenes.push_back({"tasks", "owner: " + what, [=] {
                      auto pool = std::make_shared<Pool>(1);
                      return Act{.prepare =
                                     [=] {
                                       expect((*pool)->submit(third_task).result() == 9, "the first task");
                                       if (prepare) prepare(**pool);
                                     },
                                 .operation = [=] { operation(**pool); },
                                 .survive = [](Fate) { await_nobody(); }};
                    }});
}

}  // namespace

void add_tasks(Scenes& scenes) {
  add_worker<int>(scenes, "a number", {});
  add_worker<std::string>(scenes, "9 KB", {});
  add_worker<int>(scenes, "an exception", {}, failing_task);
  add_worker<int>(scenes, "a number, with retries", {.retries = 1});
  add_worker<std::string>(scenes, "9 KB, with a time limit", {.timeout = 60s});

  // The kernel's signal, the report that its handler writes, the death.
  scenes.push_back({"tasks", "worker: pass a limit of file size", [pool = std::make_shared<Pool>(1)] {
                      auto first = (*pool)->submit(mp::TaskOptions{.limits = {.file_size = 10}}, write_too_much);
                      return Act{.survive =
                                     [=](Fate fate) mutable {
                                       bool told = false;
                                       try {
                                         first.result(kLimit);
                                         throw Violation("a task went past its limit");
                                       } catch (const mp::TimeoutError&) {
                                         throw Violation("hangs: result() of a task past its limit");
                                       } catch (const mp::WorkerCrashed& crash) {
                                         expect(crash.pid() == stage->pid, "charged with the crash of another worker");
                                         told = crash.details().limit == mp::Limit::file_size;
                                       }
                                       expect(told || !fate.finished, "the limit is not told");
                                       go_on(*pool);
                                     },
                                 .victim = worker_on_stage,
                                 .exits = true};
                    }});

  scenes.push_back({"tasks", "worker: publish, find nothing, sleep", [pool = std::make_shared<Pool>(1)] {
                      auto first = (*pool)->submit(first_task<int>);
                      return Act{.unblock = end,
                                 .survive =
                                     [=](Fate fate) mutable {
                                       const std::optional<int> one = outcome(first, "the first task");
                                       expect(one || !fate.finished, "a task that was done is lost");
                                       expect(!one || *one == 7, "the task's value is torn");
                                       go_on(*pool);
                                     },
                                 .victim = worker_on_stage};
                    }});
  // Posted while it sleeps and is held by the stepper.
  scenes.push_back({"tasks", "worker: wake up, claim, begin", [pool = std::make_shared<Pool>(1)] {
                      auto second = std::make_shared<std::optional<mp::Future<int>>>();
                      return Act{
                          .before = [=] { *second = (*pool)->submit(second_task); },
                          .survive =
                              [=](Fate) mutable {
                                const std::optional<int> two = outcome(**second, "the task");
                                expect(!two || (*two == 8 && stage->word[1] == 1), "the task ran twice or never");
                                go_on(*pool);
                              },
                          .victim =
                              [=] {
                                go_on(*pool);
                                await([&] { return !(*pool)->worker_pids().empty(); }, "a worker that should come");
                                const pid_t worker = (*pool)->worker_pids().front();
                                await(
                                    [&] {
                                      std::ifstream file("/proc/" + std::to_string(worker) + "/stat");
                                      std::string text;
                                      std::getline(file, text);
                                      return text.find(") S ") != std::string::npos;
                                    },
                                    "a worker that should come to sleep");
                                stage->pid = worker;
                                begin();
                                return worker;
                              }};
                    }});

  add_owner(scenes, "submit, the worker sleeps", {}, [](mp::ProcessPoolExecutor& pool) { pool.submit(third_task); });
  add_owner(scenes, "submit 9 KB", {}, [text = std::string(9000, 'x')](mp::ProcessPoolExecutor& pool) {
    pool.submit([](const std::string& s) { return s.size(); }, text);
  });
  const auto future = std::make_shared<std::optional<mp::Future<void>>>();
  const auto keep_busy = [=](mp::ProcessPoolExecutor& pool) {
    pool.submit([] { ::usleep(60'000'000); });
    *future = pool.submit([] { ::usleep(60'000'000); });
  };
  add_owner(scenes, "cancel", keep_busy, [=](mp::ProcessPoolExecutor&) { (*future)->cancel(); });
  add_owner(scenes, "submit and result", {}, [](mp::ProcessPoolExecutor& pool) { pool.submit(third_task).result(); });
  add_owner(scenes, "shutdown", {}, [](mp::ProcessPoolExecutor& pool) { pool.shutdown(); });
}

}  // namespace crash
