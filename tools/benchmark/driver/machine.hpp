// What the figures were taken on: it stands in every output.
#pragma once

#include <string>
#include <utility>
#include <vector>

// In the order to print: cpu, cpus, kernel, governor, compiler, versions of rivals, ...
using Machine = std::vector<std::pair<std::string, std::string>>;

Machine this_machine();
