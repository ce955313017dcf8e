// Queue and JoinableQueue. SimpleQueue is the same code as an unbounded Queue.
#include <algorithm>
#include <numeric>

#include "../scene.hpp"
#include "mp/errors.hpp"
#include "mp/queue.hpp"

namespace crash {
namespace {

// An item of each way of travelling: its bytes in the record; pickled; in an object of its own.
template <class T>
T item(int number);
template <>
long item<long>(int number) {
  return number;
}
template <>
std::string item<std::string>(int number) {
  return "item " + std::to_string(number) + " of a few words";
}
struct Large {
  std::string text;
  friend bool operator==(const Large&, const Large&) = default;
};
template <>
Large item<Large>(int number) {
  return {std::string(9000, static_cast<char>('!' + number))};
}

// The numbers of all that can be had without waiting; whole, each.
template <class T, template <class> class Q>
std::vector<int> drain(const Q<T>& queue) {
  std::vector<int> numbers;
  while (std::optional<T> got = queue.try_get()) {
    int number = 0;
    while (number < 90 && !(*got == item<T>(number))) ++number;
    expect(number < 90, "a torn item");
    numbers.push_back(number);
  }
  expect(queue.empty() && queue.qsize() == 0, "a drained queue says that it holds something");
  return numbers;
}

std::string text(const std::vector<int>& numbers) {
  std::string all = "[";
  for (int n : numbers) all += " " + std::to_string(n);
  return all + " ]";
}

void expect_items(const std::vector<int>& got, std::vector<int> always, std::vector<int> or_else,
                  const std::string& what) {
  expect(got == always || got == or_else,
         what + ": " + text(got) + " instead of " + text(always) + " or " + text(or_else));
}

// Items go through, from us and to us, with a new process on the other side.
template <class T>
void use(const mp::Queue<T>& queue) {
  Peer peer([queue] {
    for (int i = 0; i < 3; ++i) {
      std::optional<T> got = queue.get_for(kLimit);
      if (!got) throw Violation("get() hangs");
      if (!(*got == item<T>(i))) throw Violation("another item than was put");
    }
  });
  for (int i = 0; i < 3; ++i) expect(queue.put_for(item<T>(i), kLimit), "put() hangs");
  peer.finish("get() of a new process");
  expect_items(drain(queue), {}, {}, "a queue from which everything was taken");
}

template <class T>
void add(Scenes& scenes, const std::string& type) {
  const std::string q = "Queue<" + type + ">::";
  for (int held : {0, 3}) {
    scenes.push_back({"queues", q + (held ? "put, half full" : "put, empty"), [held] {
                        mp::Queue<T> queue(held ? 6 : 0);
                        for (int i = 0; i < held; ++i) queue.put(item<T>(i));
                        return Act{.operation = [queue, mine = item<T>(held)] { queue.put(mine); },
                                   .survive =
                                       [queue, held](Fate fate) {
                                         expect(queue.put_for(item<T>(50), kLimit), "put() hangs");
                                         std::vector<int> without(static_cast<std::size_t>(held)),
                                             with(static_cast<std::size_t>(held + 1));
                                         std::iota(without.begin(), without.end(), 0);
                                         std::iota(with.begin(), with.end(), 0);
                                         without.push_back(50), with.push_back(50);
                                         const std::size_t size = queue.qsize();
                                         const auto got = drain(queue);
                                         expect_equal(got.size(), size, "items, and qsize()");
                                         expect_items(got, with, fate.finished ? with : without, "the queue");
                                         use(queue);
                                       }};
                      }});
    scenes.push_back({"queues", q + (held ? "get, half full" : "get, one item"), [held] {
                        mp::Queue<T> queue(6);
                        const int items = held ? held : 1;
                        for (int i = 0; i < items; ++i) queue.put(item<T>(i));
                        return Act{.operation = [queue] { queue.get(); },
                                   .survive =
                                       [queue, items](Fate fate) {
                                         expect(queue.put_for(item<T>(50), kLimit), "put() hangs");
                                         std::vector<int> left(static_cast<std::size_t>(items)), taken;
                                         std::iota(left.begin(), left.end(), 0);
                                         left.push_back(50);
                                         taken.assign(left.begin() + 1, left.end());
                                         expect_items(drain(queue), taken, fate.finished ? taken : left, "the queue");
                                         // All its room is there again.
                                         for (int i = 0; i < 6; ++i) expect(queue.try_put(item<T>(i)), "room was lost");
                                         expect(!queue.try_put(item<T>(6)), "more room than maxsize");
                                         expect_equal(drain(queue).size(), std::size_t{6}, "items of a full queue");
                                         use(queue);
                                       }};
                      }});
  }
  scenes.push_back({"queues", q + "put, full", [] {
                      mp::Queue<T> queue(2);
                      queue.put(item<T>(0)), queue.put(item<T>(1));
                      auto taken = std::make_shared<int>(0);
                      return Act{.operation = [queue, mine = item<T>(2)] { queue.put(mine); },
                                 .unblock = [queue, taken] { queue.get(), queue.get(), *taken = 2; },
                                 .survive =
                                     [queue, taken](Fate fate) {
                                       std::vector<int> without{0, 1}, with{0, 1, 2};
                                       without.erase(without.begin(), without.begin() + *taken);
                                       with.erase(with.begin(), with.begin() + *taken);
                                       if (*taken) expect(queue.put_for(item<T>(50), kLimit), "put() hangs");
                                       if (*taken) without.push_back(50), with.push_back(50);
                                       expect_items(drain(queue), with, fate.finished ? with : without, "the queue");
                                       use(queue);
                                     }};
                    }});
  scenes.push_back({"queues", q + "get, empty", [] {
                      mp::Queue<T> queue;
                      auto put = std::make_shared<bool>(false);
                      return Act{.operation = [queue] { queue.get(); },
                                 .unblock = [queue, put] { queue.put(item<T>(0)), *put = true; },
                                 .survive =
                                     [queue, put](Fate fate) {
                                       const auto got = drain(queue);
                                       if (*put)
                                         expect_items(got, {}, fate.finished ? std::vector<int>{} : std::vector<int>{0},
                                                      "the queue");
                                       else expect_items(got, {}, {}, "the queue");
                                       use(queue);
                                     }};
                    }});
  // What the victim had put is taken before the next put.
  scenes.push_back({"queues", q + "put, then taken", [] {
                      mp::Queue<T> queue(6);
                      queue.put(item<T>(0)), queue.get();
                      return Act{.operation = [queue, mine = item<T>(1)] { queue.put(mine); },
                                 .survive =
                                     [queue](Fate fate) {
                                       const std::vector<int> one{1};
                                       expect_items(drain(queue), one, fate.finished ? one : std::vector<int>{},
                                                    "the queue");
                                       for (int i = 0; i < 6; ++i) expect(queue.try_put(item<T>(i)), "room was lost");
                                       expect(!queue.try_put(item<T>(6)), "more room than maxsize");
                                       expect_equal(queue.qsize(), std::size_t{6}, "qsize()");
                                       expect_items(drain(queue), {0, 1, 2, 3, 4, 5}, {}, "a full queue");
                                       use(queue);
                                     }};
                    }});
  // A consumer asleep in get(): whatever becomes of the producer, it gets what comes next.
  scenes.push_back({"queues", q + "put, somebody waits", [] {
                      mp::Queue<T> queue;
                      auto peer = std::make_shared<std::unique_ptr<Peer>>();
                      *peer = std::make_unique<Peer>([queue] {
                        std::optional<T> got = queue.get_for(kLimit);
                        if (!got) throw Violation("get() hangs");
                        if (*got == item<T>(7)) stage->word[0] = 1;
                        else if (!(*got == item<T>(8))) throw Violation("a torn item");
                      });
                      (*peer)->await_sleep();
                      return Act{.operation = [queue, mine = item<T>(7)] { queue.put(mine); },
                                 .survive =
                                     [queue, peer](Fate fate) {
                                       expect(queue.put_for(item<T>(8), kLimit), "put() hangs");
                                       (*peer)->finish("get() of who had waited");
                                       peer->reset();
                                       const bool got_first = stage->word[0];
                                       expect(got_first || !fate.finished, "the item that was put is lost");
                                       expect_items(drain(queue), got_first ? std::vector<int>{8} : std::vector<int>{},
                                                    got_first ? std::vector<int>{8} : std::vector<int>{}, "the queue");
                                       use(queue);
                                     }};
                    }});
  scenes.push_back({"queues", q + "get, somebody waits for room", [] {
                      mp::Queue<T> queue(1);
                      queue.put(item<T>(0));
                      auto peer = std::make_shared<std::unique_ptr<Peer>>();
                      *peer = std::make_unique<Peer>([queue] {
                        if (!queue.put_for(item<T>(1), kLimit)) throw Violation("put() hangs");
                      });
                      (*peer)->await_sleep();
                      return Act{.operation = [queue] { queue.get(); },
                                 .survive =
                                     [queue, peer](Fate fate) {
                                       std::optional<T> first = queue.get_for(kLimit);
                                       expect(first.has_value(), "get() hangs");
                                       const bool was_left = *first == item<T>(0);
                                       expect(!was_left || !fate.finished, "an item was handed out twice");
                                       expect(was_left || *first == item<T>(1), "a torn item");
                                       (*peer)->finish("put() of who had waited");
                                       peer->reset();
                                       expect_items(drain(queue), was_left ? std::vector<int>{1} : std::vector<int>{},
                                                    was_left ? std::vector<int>{1} : std::vector<int>{}, "the queue");
                                       use(queue);
                                     }};
                    }});
}

template <class T>
void add_joinable(Scenes& scenes, const std::string& type) {
  // Three items, two done. Then either all are, or join() says who died with one.
  const auto use = [](const mp::JoinableQueue<T>& queue, bool may_be_owed) {
    drain(queue);
    for (bool owed = false;;) {
      try {
        // What is in nobody's hands is ours to do.
        if (queue.join(kLimit)) break;
        throw Violation("hangs: join()");
      } catch (const mp::OwnerDied&) {
        expect(may_be_owed && !owed, "join() says that somebody died with an item, and nobody has");
        owed = true;
      }
    }
    queue.put(item<T>(1));
    expect(!queue.join(0ms), "join() returned with an item in the queue");
    queue.get(), queue.task_done();
    expect(queue.join(kLimit), "hangs: join()");
  };
  scenes.push_back({"queues", "JoinableQueue<" + type + ">::get and task_done", [use] {
                      mp::JoinableQueue<T> queue;
                      queue.put(item<T>(0));
                      return Act{.operation = [queue] { queue.get(), queue.task_done(); },
                                 .survive =
                                     [queue, use](Fate fate) {
                                       if (queue.try_get()) {
                                         expect(!fate.finished, "an item was handed out twice");
                                         queue.task_done();
                                       }
                                       use(queue, !fate.finished);
                                     }};
                    }});
  scenes.push_back({"queues", "JoinableQueue<" + type + ">::put and join", [use] {
                      mp::JoinableQueue<T> queue;
                      return Act{.operation = [queue, mine = item<T>(0)] { queue.put(mine), queue.join(); },
                                 .unblock = [queue] { queue.get(), queue.task_done(); },
                                 .survive =
                                     [queue, use](Fate) {
                                       if (queue.try_get()) queue.task_done();
                                       use(queue, false);
                                     }};
                    }});
  scenes.push_back({"queues", "JoinableQueue<" + type + ">::task_done, somebody joins", [use] {
                      mp::JoinableQueue<T> queue;
                      queue.put(item<T>(0));
                      auto peer = std::make_shared<std::unique_ptr<Peer>>();
                      *peer = std::make_unique<Peer>([queue] {
                        try {
                          if (!queue.join(kLimit)) throw Violation("join() hangs");
                        } catch (const mp::OwnerDied&) {
                          stage->word[0] = 1;
                        }
                      });
                      (*peer)->await_sleep();
                      return Act{.prepare = [queue] { queue.get(); },
                                 .operation = [queue] { queue.task_done(); },
                                 .survive =
                                     [queue, peer, use](Fate fate) {
                                       (*peer)->finish("join() of who had waited");
                                       peer->reset();
                                       expect(!fate.finished || !stage->word[0],
                                              "join() says that somebody died with an item, and nobody has");
                                       use(queue, false);
                                     }};
                    }});
}

}  // namespace

void add_queues(Scenes& scenes) {
  add<long>(scenes, "long");
  add<std::string>(scenes, "string");
  add<Large>(scenes, "9 KB");
  add_joinable<long>(scenes, "long");
  add_joinable<Large>(scenes, "9 KB");

  // The next put crosses into a new segment of the stream.
  scenes.push_back({"queues", "Queue<long>::put, into a new segment", [] {
                      mp::Queue<long> queue;
                      for (int i = 0; i < 2 * 4095; ++i) queue.put(7), queue.get();
                      return Act{.operation = [queue] { queue.put(1); },
                                 .survive =
                                     [queue](Fate fate) {
                                       for (int i = 2; i < 90; ++i) queue.put(i);
                                       std::vector<int> without(88), with(89);
                                       std::iota(without.begin(), without.end(), 2);
                                       std::iota(with.begin(), with.end(), 1);
                                       expect_items(drain(queue), with, fate.finished ? with : without, "the queue");
                                       use(queue);
                                     }};
                    }});
  scenes.push_back({"queues", "Queue<long>::get, out of the last of a segment", [] {
                      mp::Queue<long> queue;
                      for (int i = 0; i < 4095; ++i) queue.put(7), queue.get();
                      queue.put(1);
                      return Act{.operation = [queue] { queue.get(); },
                                 .survive =
                                     [queue](Fate fate) {
                                       const std::vector<int> left{1};
                                       expect_items(drain(queue), {}, fate.finished ? std::vector<int>{} : left,
                                                    "the queue");
                                       use(queue);
                                     }};
                    }});
}

}  // namespace crash
