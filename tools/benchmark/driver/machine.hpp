// What the figures were taken on: it stands in every output.
#pragma once

#include <string>
#include <utility>
#include <vector>

// In the order to print: cpu, cpus, kernel, governor, compiler, versions of rivals, ...
using Machine = std::vector<std::pair<std::string, std::string>>;

Machine this_machine();

// Waits until other programs leave the CPUs alone, up to half a minute, and warns on stderr if they do not. What they used
// in the last second looked at, to print.
std::string wait_for_quiet();
