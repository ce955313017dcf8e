// What scenes of pools share.
#pragma once

#include <memory>
#include <string>

#include "../scene.hpp"
#include "mp/executor.hpp"

namespace crash {

// A pool that serves all kills of a scene, one after another: that it goes on is part of what is shown.
class Pool {
 public:
  explicit Pool(unsigned workers) : workers_(workers) {}
  mp::ProcessPoolExecutor& operator*() {
    if (!pool_) pool_ = std::make_unique<mp::ProcessPoolExecutor>(workers_);
    return *pool_;
  }
  mp::ProcessPoolExecutor* operator->() { return &**this; }

 private:
  unsigned workers_;
  std::unique_ptr<mp::ProcessPoolExecutor> pool_;  // made in the survivor
};

// The worker that has come to await_stepper().
inline pid_t worker_on_stage() {
  await([] { return stage->pid != 0; }, "a worker that should take a task");
  return stage->pid;
}

// After the death of `stage`'s processes: waits until nobody is left below this process, which adopts orphans, and all that they had is
// given back.
void await_nobody();

}  // namespace crash
