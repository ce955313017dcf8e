// Processes: start() and the end of one.
#include <sys/wait.h>

#include "mp/context.hpp"
#include "mp/errors.hpp"
#include "mp/process.hpp"
#include "pools.hpp"

namespace crash {
namespace {

void nothing() {}

void use() {
  mp::Process process(nothing);
  process.start();
  expect(process.join(kLimit), "hangs: join()");
  expect_equal(process.exitcode().value_or(-1), 0, "exit code");
}

void add_start(Scenes& scenes, const std::string& what, mp::StartMethod method, bool daemon) {
  scenes.push_back({"processes", "start by " + what, [=] {
                      auto process = std::make_shared<std::unique_ptr<mp::Process>>();
                      return Act{
                          .prepare =
                              [=] {
                                if (method == mp::StartMethod::forkserver) {
                                  mp::Process first(mp::ProcessOptions{.context = mp::get_context(method)}, nothing);
                                  first.start();
                                  first.join();
                                }
                                *process = std::make_unique<mp::Process>(
                                    mp::ProcessOptions{.daemon = daemon, .context = mp::get_context(method)}, nothing);
                              },
                          .operation = [=] { (*process)->start(); },
                          .survive =
                              [=](Fate) {
                                await_nobody();
                                use();
                              }};
                    }});
}

}  // namespace

void add_processes(Scenes& scenes) {
  add_start(scenes, "fork", mp::StartMethod::fork, false);
  add_start(scenes, "fork, a daemon", mp::StartMethod::fork, true);
  add_start(scenes, "forkserver", mp::StartMethod::forkserver, false);

  scenes.push_back({"processes", "exit", [] {
                      auto process = std::make_shared<mp::Process>([] {
                        await_stepper();
                        begin();
                      });
                      process->start();
                      return Act{.survive =
                                     [process](Fate fate) {
                                       expect(process->join(kLimit), "hangs: join()");
                                       const int code = process->exitcode().value_or(-1000);
                                       expect(code == 0 || (code == -9 && !fate.finished),
                                              "exit code " + std::to_string(code));
                                       use();
                                     },
                                 .victim = worker_on_stage,
                                 .exits = true};
                    }});
  scenes.push_back({"processes", "join", [] {
                      auto inner = std::make_shared<std::unique_ptr<mp::Process>>();
                      return Act{.prepare =
                                     [=] {
                                       *inner = std::make_unique<mp::Process>([] {
                                         while (!stage->word[0]) nap();
                                       });
                                       (*inner)->start();
                                     },
                                 .operation = [=] { (*inner)->join(); },
                                 .unblock = [] { stage->word[0] = 1; },
                                 .survive =
                                     [=](Fate) {
                                       stage->word[0] = 1;
                                       await_nobody();
                                       use();
                                     }};
                    }});
}

}  // namespace crash
