// The OOM killer's counter of a control group, as a file that says what a test wants.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace test {

class OomFile {
 public:
  OomFile() : path_(std::filesystem::temp_directory_path() / ("mp-oom-" + std::to_string(::getpid()))) {}
  ~OomFile() { std::filesystem::remove(path_); }
  void say(const std::string& text) const { std::ofstream(path_) << text; }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace test
