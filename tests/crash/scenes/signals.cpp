// Condition, Event, Barrier.
#include "../scene.hpp"
#include "mp/errors.hpp"
#include "mp/sync.hpp"
#include "mp/value.hpp"

namespace crash {
namespace {

using Peers = std::vector<std::unique_ptr<Peer>>;

// Whether the last holder had died.
bool take(mp::Condition& condition) {
  for (bool repaired = false;;) {
    try {
      if (!condition.acquire(true, kLimit)) throw Violation("hangs: acquire()");
      return repaired;
    } catch (const mp::OwnerDied&) {
      condition.recover();
      repaired = true;
    }
  }
}

// Waits until `turn` is set, as one who knows that whoever should notify may die: recovers the lock if need be.
void wait_for_turn(mp::Condition condition, std::shared_ptr<mp::Value<int>> turn) {
  take(condition);
  while (turn->value() == 0) {
    try {
      if (!condition.wait(kLimit)) throw Violation("wait() hangs");
    } catch (const mp::OwnerDied&) {
      condition.recover();
    }
  }
  condition.release();
}

// A new pair of processes signals to and fro through the condition.
void use(mp::Condition condition) {
  auto turn = std::make_shared<mp::Value<int>>(0);
  take(condition);
  Peer peer([=] { wait_for_turn(condition, turn); });
  condition.release();
  peer.await_sleep();
  take(condition);
  turn->set(1);
  condition.notify();
  condition.release();
  peer.finish("wait() of a new process");
}

void add_condition(Scenes& scenes) {
  scenes.push_back({"signals", "Condition::wait, notified", [] {
                      mp::Condition condition;
                      return Act{.operation =
                                     [condition]() mutable {
                                       condition.acquire();
                                       condition.wait();
                                       condition.release();
                                     },
                                 .unblock =
                                     [condition]() mutable {
                                       take(condition);
                                       condition.notify();
                                       condition.release();
                                     },
                                 .survive = [condition](Fate) { use(condition); }};
                    }});
  scenes.push_back({"signals", "Condition::wait, for 2 ms in vain", [] {
                      mp::Condition condition;
                      return Act{.operation =
                                     [condition]() mutable {
                                       condition.acquire();
                                       condition.wait(2ms);
                                       condition.release();
                                     },
                                 .survive = [condition](Fate) { use(condition); }};
                    }});
  // One wake-up for two: if the victim dies with it, it goes to the other.
  scenes.push_back({"signals", "Condition::wait, another waits behind", [] {
                      mp::Condition condition;
                      auto turn = std::make_shared<mp::Value<int>>(0);
                      auto peer = std::make_shared<std::unique_ptr<Peer>>();
                      return Act{.operation =
                                     [condition]() mutable {
                                       condition.acquire();
                                       condition.wait();
                                       condition.notify();
                                       condition.release();
                                     },
                                 .unblock =
                                     [=]() mutable {
                                       *peer = std::make_unique<Peer>([=] { wait_for_turn(condition, turn); });
                                       (*peer)->await_sleep();
                                       take(condition);
                                       turn->set(1);
                                       condition.notify();
                                       condition.release();
                                     },
                                 .survive =
                                     [=](Fate) mutable {
                                       // With the lock in hand the victim owed the next notify(): who repairs after it does that. Without,
                                       // its wake-up goes to the other by itself.
                                       if (take(condition)) condition.notify();
                                       condition.release();
                                       if (*peer) (*peer)->finish("wait() of the second waiter");
                                       peer->reset();
                                       use(condition);
                                     }};
                    }});
  scenes.push_back({"signals", "Condition::notify, nobody waits", [] {
                      mp::Condition condition;
                      return Act{.prepare = [condition]() mutable { condition.acquire(); },
                                 .operation = [condition]() mutable { condition.notify(), condition.release(); },
                                 .survive = [condition](Fate) { use(condition); }};
                    }});
  scenes.push_back({"signals", "Condition::notify_all, two wait", [] {
                      mp::Condition condition;
                      auto turn = std::make_shared<mp::Value<int>>(0);
                      auto peers = std::make_shared<Peers>();
                      for (int i = 0; i < 2; ++i) {
                        peers->push_back(std::make_unique<Peer>([=] { wait_for_turn(condition, turn); }));
                        peers->back()->await_sleep();
                      }
                      return Act{.prepare =
                                     [=]() mutable {
                                       take(condition);
                                       turn->set(1);
                                     },
                                 .operation = [condition]() mutable { condition.notify_all(), condition.release(); },
                                 .survive =
                                     [=](Fate fate) mutable {
                                       // Who repairs after a death notifies again: the dead may have owed it.
                                       if (!fate.finished) {
                                         take(condition);
                                         condition.notify_all();
                                         condition.release();
                                       }
                                       for (auto& peer : *peers) peer->finish("wait() of two that were notified");
                                       peers->clear();
                                       use(condition);
                                     }};
                    }});
}

void add_event(Scenes& scenes) {
  const auto use = [](mp::Event event) {
    event.clear();
    expect(!event.is_set(), "an event that was cleared");
    Peer peer([event] { expect(event.wait(kLimit), "wait() hangs"); });
    peer.await_sleep();
    event.set();
    peer.finish("wait() of a new process");
    expect(event.is_set() && event.wait(0ms), "an event that was set");
  };
  scenes.push_back({"signals", "Event::set, nobody waits", [use] {
                      mp::Event event;
                      return Act{.operation = [event]() mutable { event.set(); },
                                 .survive =
                                     [=](Fate fate) {
                                       expect(event.is_set() || !fate.finished, "set() had no effect");
                                       use(event);
                                     }};
                    }});
  scenes.push_back({"signals", "Event::set, two wait", [use] {
                      mp::Event event;
                      auto peers = std::make_shared<Peers>();
                      for (int i = 0; i < 2; ++i) {
                        peers->push_back(
                            std::make_unique<Peer>([event] { expect(event.wait(kLimit), "wait() hangs"); }));
                        peers->back()->await_sleep();
                      }
                      return Act{.operation = [event]() mutable { event.set(); },
                                 .survive =
                                     [=](Fate fate) mutable {
                                       expect(event.is_set() || !fate.finished, "set() had no effect");
                                       if (!event.is_set()) event.set();
                                       for (auto& peer : *peers) peer->finish("wait() of two");
                                       peers->clear();
                                       use(event);
                                     }};
                    }});
  scenes.push_back({"signals", "Event::wait", [use] {
                      mp::Event event;
                      return Act{.operation = [event] { event.wait(); },
                                 .unblock = [event]() mutable { event.set(); },
                                 .survive = [=](Fate) { use(event); }};
                    }});
  scenes.push_back({"signals", "Event::wait, for 2 ms in vain", [use] {
                      mp::Event event;
                      return Act{.operation = [event] { event.wait(2ms); }, .survive = [=](Fate) { use(event); }};
                    }});
}

void add_barrier(Scenes& scenes) {
  const auto use = [](mp::Barrier barrier) {
    barrier.reset();
    Peer peer([barrier]() mutable { barrier.wait(kLimit); });
    barrier.wait(kLimit);
    peer.finish("wait() of the other party");
    expect(!barrier.broken(), "the barrier is broken after a whole round");
    expect_equal(barrier.n_waiting(), 0u, "waiting parties after a whole round");
  };
  // Two parties, the victim one of them. The other comes through, or is told that the barrier is broken.
  const auto other = [](mp::Barrier barrier) {
    try {
      barrier.wait(kLimit);
    } catch (const mp::BrokenBarrierError&) {
      stage->word[0] = 1;
    }
  };
  scenes.push_back({"signals", "Barrier::wait, the first to come", [=] {
                      mp::Barrier barrier(2);
                      auto peer = std::make_shared<std::unique_ptr<Peer>>();
                      const auto start = [=] { *peer = std::make_unique<Peer>([=] { other(barrier); }); };
                      return Act{.operation = [barrier]() mutable { barrier.wait(); },
                                 .unblock = start,
                                 .survive =
                                     [=](Fate fate) mutable {
                                       if (*peer) {
                                         // It was seen to wait, so it counts as a party or as dead.
                                         (*peer)->finish("wait() of the other party");
                                         expect(!fate.finished || !stage->word[0],
                                                "the barrier broke although both had come");
                                         peer->reset();
                                       }
                                       use(barrier);
                                     }};
                    }});
  // One waits before it, and one more comes when it sleeps.
  scenes.push_back(
      {"signals", "Barrier::wait, the second of three", [=] {
         mp::Barrier barrier(3);
         auto peers = std::make_shared<Peers>();
         const auto start = [=] { peers->push_back(std::make_unique<Peer>([=] { other(barrier); })); };
         start();
         peers->back()->await_sleep();
         return Act{.operation = [barrier]() mutable { barrier.wait(); },
                    .unblock = start,
                    .survive =
                        [=](Fate fate) mutable {
                          // Killed before it had arrived, it is missing. Afterwards it is known to be dead.
                          if (!fate.finished && peers->size() == 1 && barrier.n_waiting() == 1) barrier.abort();
                          for (auto& peer : *peers) peer->finish("wait() of the other parties");
                          expect(!fate.finished || !stage->word[0], "the barrier broke although all had come");
                          peers->clear();
                          barrier.reset();
                          Peer second([=] { other(barrier); }), third([=] { other(barrier); });
                          stage->word[0] = 0;
                          barrier.wait(kLimit);
                          second.finish("wait() in the next round"), third.finish("wait() in the next round");
                          expect(!stage->word[0] && !barrier.broken(), "the barrier is broken after a whole round");
                        }};
       }});
  scenes.push_back({"signals", "Barrier::wait, the last to come", [=] {
                      mp::Barrier barrier(2);
                      auto peer = std::make_shared<std::unique_ptr<Peer>>();
                      *peer = std::make_unique<Peer>([=] { other(barrier); });
                      (*peer)->await_sleep();
                      return Act{.operation = [barrier]() mutable { barrier.wait(); },
                                 .survive =
                                     [=](Fate fate) mutable {
                                       // Killed before it had arrived, it is missing: we come in its place, or break the barrier for it.
                                       if (!fate.finished && barrier.n_waiting() == 1) {
                                         nap();
                                         barrier.abort();
                                       }
                                       (*peer)->finish("wait() of the other party");
                                       expect(!fate.finished || !stage->word[0],
                                              "the barrier broke although both had come");
                                       peer->reset();
                                       use(barrier);
                                     }};
                    }});
}

}  // namespace

void add_signals(Scenes& scenes) {
  add_condition(scenes);
  add_event(scenes);
  add_barrier(scenes);
}

}  // namespace crash
