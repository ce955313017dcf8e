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

// The program's own code: nearly every function that is sent lies there, and asking for it costs a comparison.
class ProgramCode {
 public:
  // nullopt: elsewhere, ask locate().
  std::optional<ModuleAddress> locate(const void* p) const noexcept {
    const std::uint64_t offset = reinterpret_cast<std::uintptr_t>(p) - start_;
    if (offset - begin_ < size_) [[likely]]
      return ModuleAddress{module_, offset};
    return std::nullopt;
  }
  // nullptr: elsewhere, ask resolve().
  const void* resolve(ModuleAddress address) const noexcept {
    if (address.module == module_ && address.offset - begin_ < size_) [[likely]]
      return reinterpret_cast<const void*>(start_ + address.offset);
    return nullptr;
  }

 private:
  friend struct ProgramCodeReader;
  std::uint64_t module_ = 0;
  std::uintptr_t start_ = 0;
  std::uint64_t begin_ = 0, size_ = 0;  // of the code, from start_; no size: not known yet
};
extern constinit ProgramCode program_code;  // written once, as this library is initialised

// File of the module, empty if it is not loaded here.
std::string module_file(std::uint64_t module);

}  // namespace mp::os
