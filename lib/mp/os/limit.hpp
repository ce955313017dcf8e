// What the kernel's refusal of a resource is about: which limit, how high it is here, and how to raise it.
#pragma once

#include <string>

#include "mp/errors.hpp"

namespace mp::os {

// The error of a call that makes a process, a thread, a descriptor or a mapping: "CALL OBJECT: reason (the limit, and what raises it)",
// where `error` says that a limit was met or that a seccomp filter or an old kernel refused; else as OSError says it.
OSError refused(int error, const std::string& call, const std::string& object = {});

}  // namespace mp::os
