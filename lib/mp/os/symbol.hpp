// Addresses and types as people know them. Symbols come from the modules' debug information and symbol tables (libdw).
#pragma once

#include <string>
#include <vector>

#include "mp/os/module.hpp"

namespace mp::os {

// `mangled` (a linker's or a type_info's name) as written in the source; unchanged if it is no such name.
std::string demangled(const char* mangled);

struct Line {
  std::string function;  // demangled; empty if not known
  std::string file;      // its last component; empty if not known
  int line = 0;
  std::string module;    // file name of the module; empty if not loaded here
  bool inlined = false;  // into the line that follows
};

// What runs at that address: innermost inlined function first, the function itself last; at least one. Reads debug information the first time
// (milliseconds to tens of them). The module must be loaded here for more than its number to be known. Thread-safe, throws std::bad_alloc only.
std::vector<Line> symbolise(ModuleAddress address);

// Name of the function or variable that `p` lies in; empty if not known.
std::string symbol_at(const void* p);

}  // namespace mp::os
