#include "mp/pool/thread_engine.hpp"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "mp/errors.hpp"
#include "mp/memory/family.hpp"
#include "mp/os/cpu.hpp"
#include "mp/os/threads.hpp"

namespace mp::pool {
namespace {

std::string default_prefix() {
  static std::atomic<unsigned> count{0};
  return "pool-" + std::to_string(count.fetch_add(1, std::memory_order_relaxed));
}

std::string reason(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "an exception that is no std::exception";
  }
}

}  // namespace

struct ThreadEngine::Core {
  memory::Tag owner;
  unsigned most;
  std::string prefix;
  std::function<void()> initializer;

  std::mutex mutex;  // guards what follows; never held while user code runs
  std::condition_variable work;
  std::deque<QueuedTask> queue;
  std::vector<std::thread> threads;
  std::vector<QueuedTask> running;  // what each thread runs
  unsigned started = 0;
  std::size_t idle = 0;  // threads that sleep for work
  bool closed = false;
  std::exception_ptr broken;

  std::mutex join_mutex;

  static thread_local const Core* mine;  // whose thread this is

  void check_owner() const {
    if (memory::self() != owner) throw Error("this pool belongs to another process: a child makes a pool of its own");
  }
  void fail(const std::exception_ptr& error) noexcept;
  static void serve(const std::shared_ptr<Core>& core, unsigned number) noexcept;
};

thread_local const ThreadEngine::Core* ThreadEngine::Core::mine = nullptr;

void ThreadEngine::Core::serve(const std::shared_ptr<Core>& core, unsigned number) noexcept {
  mine = core.get();
  const std::string tail = '_' + std::to_string(number);
  ::pthread_setname_np(::pthread_self(), (core->prefix.substr(0, 15 - tail.size()) + tail).c_str());
  if (core->initializer) {
    try {
      core->initializer();
    } catch (...) {
      core->fail(std::current_exception());
      return;
    }
  }
  std::unique_lock guard(core->mutex);
  for (;;) {
    while (core->queue.empty()) {
      if (core->closed || core->broken) return;
      ++core->idle;
      core->work.wait(guard);
      --core->idle;
    }
    auto task = std::move(core->queue.front());
    core->queue.pop_front();
    core->running[number] = task;
    guard.unlock();
    task.task->run();
    guard.lock();
    core->running[number] = {};  // not the last: nothing of the user's is destroyed under the mutex
    guard.unlock();
    task = {};
    guard.lock();
  }
}

void ThreadEngine::Core::fail(const std::exception_ptr& error) noexcept {
  std::deque<QueuedTask> lost;
  std::exception_ptr why = std::make_exception_ptr(
      BrokenThreadPool("the initializer of a thread failed, the pool is not usable any more: " + reason(error)));
  {
    std::lock_guard guard(mutex);
    if (!broken) broken = why;
    lost.swap(queue);
  }
  work.notify_all();
  for (auto& lost_one : lost) lost_one.task->drop(why);
}

std::shared_ptr<ThreadEngine> ThreadEngine::start(ThreadEngineOptions options) {
  if (options.workers == 0) options.workers = std::min(32u, process_cpu_count() + 4);
  if (options.workers > kMostWorkers)
    throw ValueError("a pool has at most " + std::to_string(kMostWorkers) + " workers, not " +
                     std::to_string(options.workers));
  auto core = std::make_shared<Core>();
  core->owner = memory::self();
  core->most = options.workers;
  core->prefix = options.name_prefix.empty() ? default_prefix() : std::move(options.name_prefix);
  core->initializer = std::move(options.initializer);
  return std::shared_ptr<ThreadEngine>(new ThreadEngine(std::move(core)));
}

ThreadEngine::~ThreadEngine() {
  if (memory::self() !=
      core_->owner) {  // the copy in a fork child names threads that are not there: kept, never looked at
    new std::shared_ptr<Core>(std::move(core_));
    return;
  }
  close(false);
  if (Core::mine != core_.get()) {
    join();
    return;
  }
  std::lock_guard guard(core_->mutex);  // a task dropped the last handle to its own pool: nobody is left to join
  for (auto& thread : core_->threads) thread.detach();
  core_->threads.clear();
}

unsigned ThreadEngine::workers() const noexcept { return core_->most; }

unsigned ThreadEngine::threads() const {
  std::lock_guard guard(core_->mutex);
  return core_->started;
}

void ThreadEngine::post(QueuedTask task) {
  core_->check_owner();
  std::lock_guard guard(core_->mutex);
  if (core_->broken) std::rethrow_exception(core_->broken);
  if (core_->closed) throw Error("cannot schedule new futures after shutdown");
  core_->queue.push_back(std::move(task));
  if (core_->queue.size() > core_->idle && core_->started < core_->most) {
    try {
      core_->running.resize(core_->started + 1);
      core_->threads.push_back(
          os::start_thread("a thread pool", [core = core_, number = core_->started] { Core::serve(core, number); }));
      ++core_->started;
      return;
    } catch (...) {
      if (core_->started == 0) {
        core_->queue.pop_back();
        throw;
      }
    }
  }
  core_->work.notify_one();
}

void ThreadEngine::close(bool cancel) {
  core_->check_owner();
  std::deque<QueuedTask> dropped;
  std::vector<QueuedTask> stopped;
  {
    std::lock_guard guard(core_->mutex);
    core_->closed = true;
    if (cancel) {
      dropped.swap(core_->queue);
      stopped = core_->running;
    }
  }
  core_->work.notify_all();
  for (auto& one : dropped) one.task->drop(nullptr);
  for (auto& one : stopped)
    if (one.task) one.task->stop();
}

void ThreadEngine::join() {
  core_->check_owner();
  if (Core::mine == core_.get()) return;
  std::lock_guard joining(core_->join_mutex);
  std::vector<std::thread> threads;
  {
    std::lock_guard guard(core_->mutex);
    threads.swap(core_->threads);
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace mp::pool
