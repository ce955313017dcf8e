#include "mp/os/symbol.hpp"

#include <cxxabi.h>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>

#include "mp/os/call.hpp"
#include "mp/os/module.hpp"

namespace mp::os {
namespace {

std::string last_component(const char* path) {
  if (path == nullptr) return {};
  const std::string_view all = path;
  return std::string(all.substr(all.rfind('/') + 1));
}

std::string function_of(Dwarf_Die* die) {
  Dwarf_Attribute attribute;
  for (unsigned name : {unsigned{DW_AT_linkage_name}, unsigned{DW_AT_MIPS_linkage_name}, unsigned{DW_AT_name}}) {
    if (dwarf_attr_integrate(die, name, &attribute) == nullptr) continue;
    if (const char* text = dwarf_formstring(&attribute)) return name == DW_AT_name ? text : demangled(text);
  }
  return {};
}

// Debug information of one file.
class Debug {
 public:
  explicit Debug(const std::string& file) {
    static const Dwfl_Callbacks callbacks{dwfl_build_id_find_elf, dwfl_build_id_find_debuginfo,
                                          dwfl_offline_section_address, nullptr};
    dwfl_ = dwfl_begin(&callbacks);
    if (dwfl_ == nullptr) return;
    dwfl_report_begin(dwfl_);
    module_ = dwfl_report_offline(dwfl_, file.c_str(), file.c_str(), -1);
    dwfl_report_end(dwfl_, nullptr, nullptr);
    if (module_ != nullptr) dwfl_module_info(module_, nullptr, &start_, nullptr, nullptr, nullptr, nullptr, nullptr);
  }
  ~Debug() {
    if (dwfl_ != nullptr) dwfl_end(dwfl_);
  }
  Debug(const Debug&) = delete;
  Debug& operator=(const Debug&) = delete;

  std::string symbol(std::uint64_t offset) const {
    GElf_Off within;
    GElf_Sym symbol;
    const char* name = module_ == nullptr ? nullptr
                                          : dwfl_module_addrinfo(module_, start_ + offset, &within, &symbol, nullptr,
                                                                 nullptr, nullptr);
    return name != nullptr ? demangled(name) : std::string();
  }

  void lines(std::uint64_t offset, std::vector<Line>& out) const {
    if (module_ == nullptr) return;
    const Dwarf_Addr at = start_ + offset;
    Line place;
    Dwarf_Addr bias = 0;
    if (Dwarf_Die* unit = unit_of(at, bias)) {
      if (Dwarf_Line* line = dwarf_getsrc_die(unit, at - bias)) {
        place.file = last_component(dwarf_linesrc(line, nullptr, nullptr));
        dwarf_lineno(line, &place.line);
      }
      // The innermost scope there, then the chain of what it is inlined into; dwarf_getscopes alone would go on to where that was declared.
      Dwarf_Die* found = nullptr;
      int depth = dwarf_getscopes(unit, at - bias, &found);
      std::unique_ptr<Dwarf_Die, void (*)(void*)> innermost(found, std::free);
      found = nullptr;
      if (depth > 0) depth = dwarf_getscopes_die(innermost.get(), &found);
      std::unique_ptr<Dwarf_Die, void (*)(void*)> scopes(found, std::free);
      Dwarf_Files* files = nullptr;
      dwarf_getsrcfiles(unit, &files, nullptr);
      for (int i = 0; i < depth; ++i) {
        Dwarf_Die* scope = scopes.get() + i;
        const int tag = dwarf_tag(scope);
        if (tag != DW_TAG_inlined_subroutine && tag != DW_TAG_subprogram) continue;
        place.function = function_of(scope);
        out.push_back(place);
        if (tag == DW_TAG_subprogram) break;
        // The next one out is where this one was called.
        Dwarf_Attribute attribute;
        Dwarf_Word number;
        place = {};
        if (dwarf_formudata(dwarf_attr(scope, DW_AT_call_file, &attribute), &number) == 0)
          place.file = last_component(dwarf_filesrc(files, number, nullptr, nullptr));
        if (dwarf_formudata(dwarf_attr(scope, DW_AT_call_line, &attribute), &number) == 0)
          place.line = static_cast<int>(number);
      }
    }
    if (out.empty()) {
      place.function = symbol(offset);
      out.push_back(place);
    } else if (out.back().function.find('(') == std::string::npos) {
      // A name from the symbol table has its parameters.
      if (std::string name = symbol(offset); !name.empty()) out.back().function = name;
    }
  }

 private:
  // The compilation unit; searched for one by one where the compiler (Clang) writes no table of them.
  Dwarf_Die* unit_of(Dwarf_Addr at, Dwarf_Addr& bias) const {
    if (Dwarf_Die* unit = dwfl_module_addrdie(module_, at, &bias)) return unit;
    for (Dwarf_Die* unit = nullptr; (unit = dwfl_module_nextcu(module_, unit, &bias)) != nullptr;)
      if (dwarf_haspc(unit, at - bias) > 0) return unit;
    return nullptr;
  }

  Dwfl* dwfl_ = nullptr;
  Dwfl_Module* module_ = nullptr;
  Dwarf_Addr start_ = 0;
};

// The program's own file may have been replaced since it was started.
std::string readable(const std::string& file) {
  char own[4096];
  const ssize_t n = call_again(Call::readlink, [&] { return ::readlink("/proc/self/exe", own, sizeof own); });
  return n > 0 && file == std::string_view(own, static_cast<std::size_t>(n)) ? "/proc/self/exe" : file;
}

// libdw promises nothing about threads.
std::mutex& one_at_a_time() {
  static auto& mutex = *new std::mutex;
  return mutex;
}

}  // namespace

std::string demangled(const char* mangled) {
  int status = 0;
  std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(mangled, nullptr, nullptr, &status), std::free);
  return text ? text.get() : mangled;
}

struct Symboliser::Modules {
  std::lock_guard<std::mutex> alone{one_at_a_time()};
  std::map<std::string, Debug> by_file;
  Debug& of(const std::string& file) { return by_file.try_emplace(file, readable(file)).first->second; }
};

Symboliser::Symboliser() : modules_(new Modules) {}
Symboliser::~Symboliser() = default;

std::vector<Line> Symboliser::lines_at(const std::string& module_file, std::uint64_t offset) {
  std::vector<Line> lines;
  modules_->of(module_file).lines(offset, lines);
  if (lines.empty()) lines.emplace_back();
  for (Line& line : lines) line.module = last_component(module_file.c_str());
  return lines;
}

std::string Symboliser::name_at(const std::string& module_file, std::uint64_t offset) {
  return modules_->of(module_file).symbol(offset);
}

std::string symbol_at(const void* p) {
  const auto found = locate(p);
  if (!found) return {};
  return Symboliser().name_at(module_file(found->address.module), found->address.offset);
}

}  // namespace mp::os
