// Every shared object works between any two processes of the family under every start method, however its handle got there: as a
// process argument, through a queue, or as the argument of a task.
#include <mp/mp.hpp>

#include <doctest/doctest.h>

#include <mutex>
#include <string>
#include <vector>

using namespace std::chrono_literals;

namespace {

// One of each, as a user would bundle them: an aggregate is sent member by member.
struct Kit {
  mp::Lock lock;
  mp::RLock rlock;
  mp::Semaphore semaphore{0};
  mp::BoundedSemaphore bounded{1};
  mp::Condition condition;
  mp::Event event;
  mp::Barrier barrier{2};
  mp::Value<long> value{0};
  mp::Array<int> array{4};
  mp::Queue<std::string> queue;
  mp::JoinableQueue<int> joinable;
  mp::SimpleQueue<int> simple;
};

// The other side of exercise().
void use(Kit kit) {
  {
    std::scoped_lock guard(kit.lock, kit.rlock);
    kit.value += 5;
  }
  kit.bounded.acquire();
  kit.bounded.release();
  for (int& cell : kit.array) cell = 7;
  kit.simple.put(kit.joinable.get());
  kit.joinable.task_done();
  kit.queue.put("from the child");
  kit.semaphore.release();
  {
    std::scoped_lock guard(kit.condition);
    kit.value += 1;
    kit.condition.notify_all();
  }
  kit.event.set();
  kit.barrier.wait();
}

// What a test of one journey looks like from the sender's side; what went wrong, or nothing.
std::string exercise(Kit& kit) {
  kit.joinable.put(42);
  if (kit.queue.get(true, 20s) != "from the child") return "queue";
  if (!kit.semaphore.acquire(true, 20s)) return "semaphore";
  if (!kit.event.wait(20s)) return "event";
  {
    std::scoped_lock guard(kit.condition);
    if (!kit.condition.wait_for([&] { return kit.value.get() == 6; }, 20s)) return "condition";
  }
  kit.barrier.wait(20s);
  if (kit.simple.get() != 42) return "simple queue";
  if (!kit.joinable.join(20s)) return "joinable queue";
  for (int cell : kit.array)
    if (cell != 7) return "array";
  if (kit.lock.locked() || kit.rlock.locked()) return "locks";
  return {};
}

void receive(mp::Queue<Kit> kits) { use(kits.get(true, 20s)); }

// A process that hands the kit on to a process of its own.
void hand_on(Kit kit) {
  mp::Process grandchild(use, kit);
  grandchild.start();
  grandchild.join();
  if (grandchild.exitcode() != 0) std::_Exit(1);
}

void answer(mp::Connection there) { there.send(there.recv<std::string>() + "!"); }
void answer_through(mp::Queue<mp::Connection> connections) { answer(connections.get(true, 20s)); }

}  // namespace

TEST_CASE("every handle works as a process argument, through a queue, in a grandchild and as a task argument") {
  for (mp::StartMethod method : mp::get_all_start_methods()) {
    CAPTURE(mp::to_string(method));
    SUBCASE("process argument") {
      Kit kit;
      mp::Process p({.context = method}, use, kit);
      p.start();
      CHECK(exercise(kit) == "");
      p.join();
      CHECK(p.exitcode() == 0);
    }
    SUBCASE("through a queue") {
      Kit kit;
      mp::Queue<Kit> kits;
      mp::Process p({.context = method}, receive, kits);
      p.start();
      kits.put(kit);
      CHECK(exercise(kit) == "");
      p.join();
      CHECK(p.exitcode() == 0);
    }
    SUBCASE("to a grandchild") {
      Kit kit;
      mp::Process p({.context = method}, hand_on, kit);
      p.start();
      CHECK(exercise(kit) == "");
      p.join();
      CHECK(p.exitcode() == 0);
    }
    SUBCASE("task argument") {
      Kit kit;
      mp::ProcessPoolExecutor pool({.max_workers = 1, .mp_context = method});
      auto done = pool.submit(use, kit);
      CHECK(exercise(kit) == "");
      CHECK_NOTHROW(done.result(20s));
    }
  }
}

TEST_CASE("an end of a pipe works as a process argument and through a queue, and its end is noticed") {
  for (mp::StartMethod method : mp::get_all_start_methods()) {
    CAPTURE(mp::to_string(method));
    for (bool through_queue : {false, true}) {
      CAPTURE(through_queue);
      auto [here, there] = mp::Pipe();
      mp::Queue<mp::Connection> connections;
      mp::Process p = through_queue ? mp::Process({.context = method}, answer_through, connections)
                                    : mp::Process({.context = method}, answer, there);
      p.start();
      if (through_queue) connections.put(there);
      there.close();
      here.send("hello");
      CHECK(here.recv<std::string>() == "hello!");
      p.join();
      CHECK(p.exitcode() == 0);
      CHECK_THROWS_AS(here.recv<std::string>(), mp::EOFError);
    }
  }
}
