// Maps: a worker that is killed between an item of one chunk and an item of a later one.
#include <unistd.h>

#include <numeric>

#include "mp/errors.hpp"
#include "mp/future.hpp"
#include "mp/pickle/crashed.hpp"
#include "pools.hpp"

namespace crash {
namespace {

constexpr int kItems = 24, kBegin = 5, kEnd = 10, kChunk = 4;

// The victim is stepped from item kBegin to item kEnd, over two chunks' ends.
template <class R>
R step_on(int item);
template <>
int step_on<int>(int item) {
  if (item == kBegin && !stage->pid) await_stepper(), begin();
  if (item == kEnd && stage->begun && stage->pid == ::getpid()) end();
  return item * item;
}
template <>
std::string step_on<std::string>(int item) {
  return std::to_string(step_on<int>(item));
}

template <class R>
R square(int item) {
  if constexpr (std::is_same_v<R, int>) return item * item;
  else return std::to_string(item * item);
}

template <class R>
void add(Scenes& scenes, const std::string& what, unsigned workers, unsigned retries) {
  scenes.push_back(
      {"maps", "worker: " + what, [=, pool = std::make_shared<Pool>(workers)] {
         std::vector<int> items(kItems);
         std::iota(items.begin(), items.end(), 0);
         const mp::MapOptions options{.chunksize = kChunk, .retries = retries, .deadline = kLimit};
         auto results = std::make_shared<mp::LazyResults<R>>((*pool)->map(options, step_on<R>, items));
         return Act{.unblock = end,  // where another worker has taken all the rest
                    .survive =
                        [=](Fate) {
                          int item = 0, lost = 0;
                          for (auto it = results->begin(); it != results->end(); ++it, ++item) {
                            try {
                              expect(*it == square<R>(item), "item " + std::to_string(item) + " has another's value");
                            } catch (const mp::WorkerCrashed& crash) {
                              expect(crash.pid() == stage->pid, "an item is charged with the crash of another worker");
                              expect(item >= kBegin && item <= kEnd,
                                     "an item is lost that the victim had not begun or had done");
                              ++lost;
                            } catch (const mp::TimeoutError&) {
                              throw Violation("hangs: item " + std::to_string(item));
                            }
                          }
                          expect_equal(item, kItems, "items");
                          expect(lost <= (retries ? 0 : 1), std::to_string(lost) + " items lost with one worker");
                          expect_equal((*pool)->submit([] { return 9; }).result(kLimit), 9, "a later task's value");
                        },
                    .victim = worker_on_stage};
       }});
}

}  // namespace

void add_maps(Scenes& scenes) {
  add<int>(scenes, "map of numbers", 1, 0);
  add<int>(scenes, "map of numbers, with retries", 1, 1);
  add<int>(scenes, "map of numbers, two workers", 2, 0);
  add<std::string>(scenes, "map to strings", 1, 0);
}

}  // namespace crash
