// The modules of this process (the program and its shared libraries) and addresses in them, named so that another
// process of the same build understands them. Identity is the build-id that the linker put in; where there is none, the program
// headers, the file's name and its size.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace mp::os {

struct ModuleAddress {
  std::uint64_t module = 0;  // hash of the build-id; 0 names nothing
  std::uint64_t offset = 0;  // from the load address
  friend bool operator==(const ModuleAddress&, const ModuleAddress&) = default;
};

enum class Segment : std::uint8_t {
  code,      // executable
  constant,  // read-only, or read-only once relocated (RELRO): the same in every process of this build
  variable,  // every process has its own
};

struct Located {
  ModuleAddress address;
  Segment segment;
};

// Where `p` lies, if it lies in a module. Modules loaded later are found on a miss, unloaded ones are noticed. For the main program some
// 20 ns, else some 50 ns. Throws std::bad_alloc.
std::optional<Located> locate(const void* p);

// The other way: nullptr if that module is not loaded here or does not reach so far.
const void* resolve(ModuleAddress address, Segment& segment);

// File of the module, empty if it is not loaded here.
std::string module_file(std::uint64_t module);

}  // namespace mp::os
