// The calling process's open descriptors and what they refer to, as the kernel names it.
#pragma once

#include <map>
#include <string>

namespace test {

std::map<int, std::string> open_descriptors();

}  // namespace test
