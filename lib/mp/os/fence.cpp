#include "mp/os/fence.hpp"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mp/os/call.hpp"

namespace mp::os {
namespace {

bool membarrier(int command) noexcept {
  return call_again(Call::membarrier, [&] { return ::syscall(SYS_membarrier, command, 0, 0); }) == 0;
}

}  // namespace

void enlist_in_fences() noexcept { detail::light_is_enough = membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED); }

bool heavy_fence() noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  // Others may count on it although this process was refused when it enlisted: so it is always tried.
  return membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED);
}

}  // namespace mp::os
