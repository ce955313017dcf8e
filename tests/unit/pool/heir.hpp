// What tests ask of a pool's zygote: its children, of which one is its heir.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <mp/pool/executor.hpp>

#include "child.hpp"

namespace test {

inline std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> children;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "stat");
    std::string stat;
    std::getline(file, stat);
    pid_t child = 0, parent = 0;
    if (std::sscanf(stat.c_str(), "%d (%*[^)]) %*c %d", &child, &parent) == 2 && parent == pid)
      children.push_back(child);
  }
  return children;
}

// Until the zygote of a pool with one worker has forked who goes on in its place.
inline void await_heir(mp::ProcessPoolExecutor& pool) {
  REQUIRE(eventually(
      [&] { return children_of(pool.submit([] { return ::getppid(); }).result(std::chrono::seconds(30))).size() == 2; },
      std::chrono::seconds(20)));
}

}  // namespace test
