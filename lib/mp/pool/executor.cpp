#include "mp/pool/executor.hpp"

namespace mp {

ProcessPoolExecutor::ProcessPoolExecutor(unsigned max_workers)
    : ProcessPoolExecutor(ExecutorOptions{.max_workers = max_workers}) {}

ProcessPoolExecutor::ProcessPoolExecutor(ExecutorOptions options)
    : BasicExecutor(pool::ProcessEngine::start({
          .workers = options.max_workers,
          .context = options.mp_context,
          .initializer = std::move(options.initializer),
          .most_tasks = options.max_tasks_per_child,
          .worker_name = "PoolWorker",
      })) {}

void ProcessPoolExecutor::terminate_workers() {
  if (engine_) engine_->terminate();
}

void ProcessPoolExecutor::kill_workers() {
  if (engine_) engine_->terminate();
}

ThreadPoolExecutor::ThreadPoolExecutor(unsigned max_workers)
    : ThreadPoolExecutor(ThreadExecutorOptions{.max_workers = max_workers}) {}

ThreadPoolExecutor::ThreadPoolExecutor(ThreadExecutorOptions options)
    : BasicExecutor(pool::ThreadEngine::start({
          .workers = options.max_workers,
          .name_prefix = std::move(options.thread_name_prefix),
          .initializer = std::move(options.initializer),
      })) {}

}  // namespace mp
