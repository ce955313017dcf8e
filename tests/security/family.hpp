// A family of each kind of process that the library makes, for tests that look at it from outside.
#pragma once

#include <dirent.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "mp/mp.hpp"

namespace test {

inline void wait_for_end(mp::Event over) { over.wait(); }
inline int nothing(int x) { return x; }

// Children of all three start methods, a pool of each, a queue and a pipe that were used.
class Family {
 public:
  Family() {
    for (const mp::StartMethod method : {mp::fork, mp::spawn, mp::forkserver}) {
      children_.push_back(
          std::make_unique<mp::Process>(mp::ProcessOptions{.context = mp::get_context(method)}, &wait_for_end, over_));
      children_.back()->start();
      pools_.push_back(std::make_unique<mp::ProcessPoolExecutor>(
          mp::ExecutorOptions{.max_workers = 1, .mp_context = mp::get_context(method)}));
      pools_.back()->submit(&nothing, 1).result();
    }
    queue_.put(1);
    queue_.get();
    pipe_.first.send(std::string("text"));
    pipe_.second.recv<std::string>();
  }
  ~Family() {
    over_.set();
    for (auto& child : children_) child->join();
  }
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;

  // This process and all below it.
  static std::vector<pid_t> pids() {
    std::vector<std::pair<pid_t, pid_t>> parents;
    for (const std::string& entry : entries("/proc")) {
      const pid_t pid = std::atoi(entry.c_str());
      const std::string stat = pid > 0 ? contents("/proc/" + entry + "/stat") : std::string();
      const auto name_end = stat.rfind(')');  // the name itself may hold anything
      if (name_end == std::string::npos) continue;
      char state = 0;
      pid_t parent = 0;
      std::istringstream(stat.substr(name_end + 1)) >> state >> parent;
      parents.emplace_back(pid, parent);
    }
    std::vector<pid_t> found{::getpid()};
    for (std::size_t i = 0; i < found.size(); ++i)
      for (const auto& [pid, parent] : parents)
        if (parent == found[i]) found.push_back(pid);
    return found;
  }

  static std::vector<std::string> entries(const std::string& directory) {
    std::vector<std::string> names;
    DIR* open = ::opendir(directory.c_str());
    if (open == nullptr) return names;
    while (const dirent* entry = ::readdir(open))
      if (entry->d_name[0] != '.') names.push_back(entry->d_name);
    ::closedir(open);
    return names;
  }

  static std::string contents(const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
  }

 private:
  mp::Event over_;
  std::vector<std::unique_ptr<mp::Process>> children_;
  std::vector<std::unique_ptr<mp::ProcessPoolExecutor>> pools_;
  mp::Queue<int> queue_;
  std::pair<mp::Connection, mp::Connection> pipe_ = mp::Pipe();
};

}  // namespace test
