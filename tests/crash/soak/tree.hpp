// The processes below another one.
#pragma once

#include <sys/types.h>

#include <vector>

namespace soak {

// All that live below `top`, zombies left out. As the kernel lists them: who is born meanwhile may be missing.
std::vector<pid_t> below(pid_t top);

// Whether its SIGKILL has been sent: all that it still needs is a CPU to die on.
bool is_doomed(pid_t pid);

// Reaps the caller's ended children but `keep`.
void reap_others(pid_t keep);

}  // namespace soak
