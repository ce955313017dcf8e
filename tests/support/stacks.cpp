#include "stacks.hpp"

#include <cxxabi.h>
#include <dirent.h>
#include <elfutils/libdwfl.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <ostream>
#include <string>

namespace test {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line.empty() ? "?" : line;
}

std::string demangled(const char* name) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(name, nullptr, nullptr, &status), std::free);
  return status == 0 ? text.get() : name;
}

struct Printer {
  Dwfl* dwfl;
  std::ostream& out;
  int frame = 0;
};

int print_frame(Dwfl_Frame* frame, void* argument) {
  auto& printer = *static_cast<Printer*>(argument);
  Dwarf_Addr pc = 0;
  bool is_activation = false;
  if (printer.frame > 60 || !dwfl_frame_pc(frame, &pc, &is_activation)) return DWARF_CB_ABORT;
  const Dwarf_Addr call = is_activation ? pc : pc - 1;  // a return address is one past the call
  printer.out << "    #" << printer.frame++ << ' ';
  Dwfl_Module* module = dwfl_addrmodule(printer.dwfl, call);
  const char* name = module != nullptr ? dwfl_module_addrname(module, call) : nullptr;
  if (name != nullptr) printer.out << demangled(name);
  else printer.out << "0x" << std::hex << pc << std::dec;
  Dwfl_Line* line = module != nullptr ? dwfl_module_getsrc(module, call) : nullptr;
  int number = 0;
  const char* file = line != nullptr ? dwfl_lineinfo(line, nullptr, &number, nullptr, nullptr, nullptr) : nullptr;
  if (file != nullptr) printer.out << "  " << file << ':' << number;
  printer.out << '\n';
  return DWARF_CB_OK;
}

int print_thread(Dwfl_Thread* thread, void* argument) {
  auto& printer = *static_cast<Printer*>(argument);
  printer.frame = 0;
  printer.out << "  thread " << dwfl_thread_tid(thread) << '\n';
  dwfl_thread_getframes(thread, print_frame, argument);
  return DWARF_CB_OK;
}

void print_kernel_side(pid_t pid, std::ostream& out) {
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  DIR* directory = ::opendir(tasks.c_str());
  if (directory == nullptr) return;
  while (const dirent* entry = ::readdir(directory)) {
    if (entry->d_name[0] == '.') continue;
    const std::string task = tasks + '/' + entry->d_name;
    out << "  thread " << entry->d_name << " (" << first_line(task + "/comm") << ") waits in "
        << first_line(task + "/wchan") << ", system call " << first_line(task + "/syscall") << '\n';
  }
  ::closedir(directory);
}

}  // namespace

void print_stacks(pid_t pid, std::ostream& out) {
  print_kernel_side(pid, out);
  char* no_debug_path = nullptr;
  Dwfl_Callbacks callbacks{};
  callbacks.find_elf = dwfl_linux_proc_find_elf;
  callbacks.find_debuginfo = dwfl_standard_find_debuginfo;
  callbacks.debuginfo_path = &no_debug_path;
  Dwfl* dwfl = dwfl_begin(&callbacks);
  if (dwfl == nullptr) return;
  Printer printer{dwfl, out};
  if (dwfl_linux_proc_report(dwfl, pid) == 0 && dwfl_report_end(dwfl, nullptr, nullptr) == 0 &&
      dwfl_linux_proc_attach(dwfl, pid, false) == 0)
    dwfl_getthreads(dwfl, print_thread, &printer);
  else out << "  no stack: " << dwfl_errmsg(-1) << '\n';
  dwfl_end(dwfl);
}

}  // namespace test
