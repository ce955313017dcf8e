// The main of a fuzz target where libFuzzer is not: runs the inputs in the tree, and the seeds.
//
// usage: TARGET DIRECTORY...         runs each file in them and each seed; says how many those were
//        TARGET --write DIRECTORY    writes the seeds there
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "fuzz.hpp"

namespace {

std::string contents(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void run(const std::string& input, const std::string& name) {
  try {
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
  } catch (...) {
    std::cerr << name << ": an exception left the target\n";
    throw;
  }
}

int write_seeds(const std::filesystem::path& directory) {
  std::filesystem::create_directories(directory);
  for (const fuzz::Seed& seed : fuzz::seeds()) std::ofstream(directory / seed.name, std::ios::binary) << seed.bytes;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::string_view(argv[1]) == "--write") return write_seeds(argv[2]);
  int count = 0;
  for (const fuzz::Seed& seed : fuzz::seeds()) {
    run(seed.bytes, seed.name);
    ++count;
  }
  for (int i = 1; i < argc; ++i) {
    if (!std::filesystem::exists(argv[i])) continue;  // a target without findings
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      run(contents(entry.path()), entry.path().string());
      ++count;
    }
  }
  // What damage does is in the bytes: every one of the seeds' also with a few of them changed.
  for (const fuzz::Seed& seed : fuzz::seeds()) {
    std::string changed = seed.bytes;
    for (std::size_t i = 0; i < std::min<std::size_t>(changed.size(), 256); ++i) {
      const char right = changed[i];
      for (int wrong : {0, 1, 127, 128, 255}) {
        changed[i] = static_cast<char>(wrong);
        run(changed, seed.name + ", byte " + std::to_string(i) + " = " + std::to_string(wrong));
        ++count;
      }
      changed[i] = right;
      run(changed.substr(0, i), seed.name + ", cut at " + std::to_string(i));
      ++count;
    }
  }
  std::cout << count << " inputs were read or refused\n";
  return count > 0 ? 0 : 1;
}
