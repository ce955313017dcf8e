// Lock, RLock, Semaphore.
#include "../scene.hpp"
#include "mp/errors.hpp"
#include "mp/sync.hpp"

namespace crash {
namespace {

// What a user does who finds a lock: takes it, and repairs what its owner's death left. Whether a repair was needed.
template <class L>
bool take(L& lock) {
  bool repaired = false;
  for (;;) {
    try {
      if (!lock.acquire(true, kLimit)) throw Violation("hangs: acquire()");
      return repaired;
    } catch (const mp::OwnerDied&) {
      lock.recover();
      repaired = true;
    }
  }
}

// Takes and frees the lock some times, and another process beside it.
template <class L>
void use(L lock, Fate fate) {
  const bool repaired = take(lock);
  expect(!(repaired && fate.finished), "the owner was said to be dead, but had released");
  expect(lock.owned(), "the lock was acquired and is not owned");
  Peer peer([lock]() mutable {
    for (int i = 0; i < 3; ++i) {
      if (!lock.acquire(true, kLimit)) throw Violation("acquire() hangs");
      lock.release();
    }
  });
  lock.release();
  for (int i = 0; i < 3; ++i) {
    expect(lock.acquire(true, kLimit), "hangs: acquire()");
    lock.release();
  }
  peer.finish("acquire() and release() of another process");
  expect(!lock.locked(), "the lock is held by nobody and locked");
}

template <class L>
void add_lock(Scenes& scenes, const std::string& type) {
  scenes.push_back({"locks", type + "::acquire, free", [] {
                      L lock;
                      return Act{.operation = [lock]() mutable { lock.acquire(), lock.release(); },
                                 .survive = [lock](Fate fate) { use(lock, fate); }};
                    }});
  scenes.push_back({"locks", type + "::release", [] {
                      L lock;
                      return Act{.prepare = [lock]() mutable { lock.acquire(); },
                                 .operation = [lock]() mutable { lock.release(); },
                                 .survive = [lock](Fate fate) { use(lock, fate); }};
                    }});
  scenes.push_back({"locks", type + "::release, somebody waits", [] {
                      L lock;
                      auto peer = std::make_shared<std::unique_ptr<Peer>>();
                      return Act{.prepare = [lock]() mutable { lock.acquire(); },
                                 .operation = [lock]() mutable { lock.release(); },
                                 .before =
                                     [lock, peer] {
                                       *peer = std::make_unique<Peer>([lock]() mutable {
                                         take(lock);
                                         lock.release();
                                       });
                                       (*peer)->await_sleep();
                                     },
                                 .survive =
                                     [lock, peer](Fate fate) {
                                       (*peer)->finish("acquire() of who had waited");
                                       peer->reset();
                                       use(lock, fate);
                                     }};
                    }});
  scenes.push_back({"locks", type + "::acquire, held by another", [] {
                      L lock;
                      lock.acquire();
                      return Act{.operation = [lock]() mutable { lock.acquire(), lock.release(); },
                                 .unblock = [lock]() mutable { lock.release(); },
                                 .survive =
                                     [lock](Fate fate) mutable {
                                       if (lock.owned()) lock.release();
                                       use(lock, fate);
                                     }};
                    }});
  scenes.push_back({"locks", type + "::acquire, for 2 ms in vain", [] {
                      L lock;
                      lock.acquire();
                      return Act{.operation = [lock]() mutable { lock.acquire(true, 2ms); },
                                 .survive =
                                     [lock](Fate fate) mutable {
                                       lock.release();
                                       use(lock, fate);
                                     }};
                    }});
}

template <class S>
void add_semaphore(Scenes& scenes, const std::string& type) {
  // Both tokens can be had, no third.
  const auto use = [](S semaphore, Fate fate) {
    int taken = 0;
    for (bool recovered = false; taken < 2;) {
      try {
        if (!semaphore.acquire(true, kLimit)) throw Violation("hangs: acquire()");
        ++taken;
      } catch (const mp::OwnerDied&) {
        expect(!fate.finished, "a token's holder was said to be dead, but held none");
        expect(!recovered || semaphore.recover(), "OwnerDied, and nothing to recover");
        if (!recovered) semaphore.recover();
        recovered = true;
      }
    }
    expect(!semaphore.acquire(false), "a token too many");
    semaphore.release(2);
    expect_equal(semaphore.get_value(), 2u, "tokens in the end");
    Peer peer([semaphore]() mutable {
      if (!semaphore.acquire(true, kLimit)) throw Violation("acquire() hangs");
      semaphore.release();
    });
    peer.finish("acquire() and release() of another process");
    expect_equal(semaphore.get_value(), 2u, "tokens in the end");
  };
  scenes.push_back({"locks", type + "::acquire and release", [use] {
                      S semaphore(2);
                      return Act{.operation = [semaphore]() mutable { semaphore.acquire(), semaphore.release(); },
                                 .survive = [semaphore, use](Fate fate) { use(semaphore, fate); }};
                    }});
  scenes.push_back({"locks", type + "::acquire, all tokens taken", [use] {
                      S semaphore(2);
                      semaphore.acquire(), semaphore.acquire();
                      auto held = std::make_shared<unsigned>(2);
                      return Act{.operation = [semaphore]() mutable { semaphore.acquire(), semaphore.release(); },
                                 .unblock = [semaphore, held]() mutable { semaphore.release(), --*held; },
                                 .survive =
                                     [semaphore, held, use](Fate fate) mutable {
                                       semaphore.release(*held);
                                       use(semaphore, fate);
                                     }};
                    }});
  scenes.push_back({"locks", type + "::release, somebody waits", [use] {
                      S semaphore(2);
                      semaphore.acquire();
                      auto peer = std::make_shared<std::unique_ptr<Peer>>();
                      return Act{.prepare = [semaphore]() mutable { semaphore.acquire(); },
                                 .operation = [semaphore]() mutable { semaphore.release(); },
                                 .before =
                                     [semaphore, peer] {
                                       *peer = std::make_unique<Peer>([semaphore]() mutable {
                                         try {
                                           semaphore.acquire();
                                         } catch (const mp::OwnerDied&) {
                                           semaphore.recover();
                                           semaphore.acquire();
                                         }
                                         semaphore.release();
                                       });
                                       (*peer)->await_sleep();
                                     },
                                 .survive =
                                     [semaphore, peer, use](Fate fate) mutable {
                                       (*peer)->finish("acquire() of who had waited");
                                       peer->reset();
                                       semaphore.release();
                                       use(semaphore, fate);
                                     }};
                    }});
}

}  // namespace

void add_locks(Scenes& scenes) {
  add_lock<mp::Lock>(scenes, "Lock");
  add_lock<mp::RLock>(scenes, "RLock");
  add_semaphore<mp::Semaphore>(scenes, "Semaphore");
  add_semaphore<mp::BoundedSemaphore>(scenes, "BoundedSemaphore");
}

}  // namespace crash
