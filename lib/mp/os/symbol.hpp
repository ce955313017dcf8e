// Addresses and types as people know them. Symbols come from the modules' debug information and symbol tables (libdw).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace mp::os {

// `mangled` (a linker's or a type_info's name) as written in the source; unchanged if it is no such name.
std::string demangled(const char* mangled);

struct Line {
  std::string function;  // demangled; empty if not known
  std::string file;      // its last component; empty if not known
  int line = 0;
  std::string module;  // last component of the module's file
};

// Turns addresses into lines; keeps the debug information that it has read while it lives, a few MiB a module. One object at a time in a
// process does anything, the others wait, since libdw promises nothing about threads.
class Symboliser {
 public:
  Symboliser();
  ~Symboliser();
  Symboliser(const Symboliser&) = delete;
  Symboliser& operator=(const Symboliser&) = delete;

  // What runs at that offset from where the module's image begins: innermost inlined function first, the function itself last; at least one.
  // The first question about a module reads its debug information (milliseconds to tens of them); none is fetched from anywhere.
  std::vector<Line> lines_at(const std::string& module_file, std::uint64_t offset);
  // Name of the function or variable there; empty if not known.
  std::string name_at(const std::string& module_file, std::uint64_t offset);

 private:
  struct Modules;
  std::unique_ptr<Modules> modules_;
};

// Name of the function or variable of this process that `p` lies in; empty if not known.
std::string symbol_at(const void* p);

}  // namespace mp::os
