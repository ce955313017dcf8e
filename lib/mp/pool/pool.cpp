#include "mp/pool/pool.hpp"

#include "mp/os/cpu.hpp"

namespace mp {

Pool::Pool(PoolOptions options)
    : BasicPool(pool::ProcessEngine::start({
          .workers = options.processes,
          .context = options.context,
          .initializer = std::move(options.initializer),
          .most_tasks = options.maxtasksperchild,
          .worker_name = "PoolWorker",
      })) {}

ThreadPool::ThreadPool(unsigned processes, std::function<void()> initializer)
    : BasicPool(pool::ThreadEngine::start({
          .workers = processes ? processes : process_cpu_count(),
          .initializer = std::move(initializer),
      })) {}

}  // namespace mp
