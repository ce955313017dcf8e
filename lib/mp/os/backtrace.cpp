#include "mp/os/backtrace.hpp"

#include <unwind.h>

#include <algorithm>
#include <string_view>

#include "mp/os/module.hpp"
#include "mp/os/symbol.hpp"

// A frame that does nothing but call function(argument), with a personality routine of ours. No language-specific data: nothing is
// caught or cleaned up in it.
extern "C" void mp_call_watched(void (*function)(void*), void* argument);
extern "C" [[gnu::used, gnu::visibility("hidden")]] _Unwind_Reason_Code mp_watch_personality(int, _Unwind_Action,
                                                                                             std::uint64_t,
                                                                                             _Unwind_Exception*,
                                                                                             _Unwind_Context*);

asm(R"(
  .text
  .p2align 4
  .globl mp_call_watched
  .hidden mp_call_watched
  .type mp_call_watched, %function
mp_call_watched:
  .cfi_startproc
  .cfi_personality 0x1b, mp_watch_personality
)"
#if defined(__x86_64__)
    R"(
  endbr64
  pushq %rbp
  .cfi_def_cfa_offset 16
  .cfi_offset %rbp, -16
  movq %rsp, %rbp
  .cfi_def_cfa_register %rbp
  movq %rdi, %rax
  movq %rsi, %rdi
  callq *%rax
  popq %rbp
  .cfi_def_cfa %rsp, 8
  retq
)"
#elif defined(__aarch64__)
    R"(
  hint #34
  stp x29, x30, [sp, #-16]!
  .cfi_def_cfa_offset 16
  .cfi_offset x29, -16
  .cfi_offset x30, -8
  mov x29, sp
  mov x2, x0
  mov x0, x1
  blr x2
  ldp x29, x30, [sp], #16
  .cfi_restore x30
  .cfi_restore x29
  .cfi_def_cfa_offset 0
  ret
)"
#else
#error "mp: no watched call for this processor"
#endif
    R"(
  .cfi_endproc
  .size mp_call_watched, . - mp_call_watched
)");

namespace mp::os {
namespace {

struct Trace {
  void** addresses;
  std::size_t most, count;
  std::uintptr_t until;  // stops at the frame with this canonical frame address; 0: goes to the end
};

_Unwind_Reason_Code note_frame(_Unwind_Context* context, void* argument) {
  Trace& trace = *static_cast<Trace*>(argument);
  if (trace.count == trace.most) return _URC_END_OF_STACK;
  int before = 0;
  const std::uintptr_t ip = _Unwind_GetIPInfo(context, &before);
  if (ip == 0) return _URC_END_OF_STACK;
  trace.addresses[trace.count++] = reinterpret_cast<void*>(ip);
  // The context of a frame gives the frame address of its caller's side on some unwinders; one frame more is noted at worst.
  return trace.until != 0 && _Unwind_GetCFA(context) > trace.until ? _URC_END_OF_STACK : _URC_NO_REASON;
}

struct Thrown {
  void* addresses[kMaxStack];
  std::size_t count;
};
thread_local constinit Thrown thrown{};

bool contains_any(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::any_of(words.begin(), words.end(), [&](std::string_view w) { return text.find(w) != text.npos; });
}

// The throwing: from the innermost frame to __cxa_throw.
bool throws(std::string_view function) {
  return contains_any(
      function, {"__cxa_throw", "__cxa_rethrow", "std::rethrow_exception", "_Unwind_RaiseException",
                 "_Unwind_Resume_or_Rethrow", "mp_watch_personality", "mp::os::(anonymous namespace)::note_frame"});
}
// The calling: between the watched frame and the user's function.
bool calls(std::string_view function) {
  return contains_any(function.substr(0, function.find('(')),
                      {"mp_call_watched", "mp::os::", "mp::pool::", "mp::process::", "mp::pickle::", "std::__invoke",
                       "std::invoke", "std::__apply", "std::apply"});
}

}  // namespace

std::size_t capture(void** addresses, std::size_t most) noexcept {
  Trace trace{addresses, most, 0, 0};
  _Unwind_Backtrace(note_frame, &trace);
  return trace.count;
}

Stack locate_stack(void* const* addresses, std::size_t count) {
  Stack stack;
  std::vector<std::uint64_t> ids;
  for (std::size_t i = 0; i < count; ++i) {
    const auto found = locate(addresses[i]);
    if (!found) {
      stack.frames.push_back({UINT32_MAX, reinterpret_cast<std::uintptr_t>(addresses[i])});
      continue;
    }
    auto at = std::find(ids.begin(), ids.end(), found->address.module);
    if (at == ids.end()) {
      stack.files.push_back(module_file(found->address.module));
      at = ids.insert(ids.end(), found->address.module);
    }
    stack.frames.push_back({static_cast<std::uint32_t>(at - ids.begin()), found->address.offset});
  }
  return stack;
}

void detail::call_watched(void (*function)(void*), void* argument) {
  thrown.count = 0;
  ::mp_call_watched(function, argument);
}

Stack thrown_stack() {
  Stack stack = locate_stack(thrown.addresses, thrown.count);
  thrown.count = 0;
  return stack;
}

std::string Stack::text() const {
  Symboliser symboliser;
  std::vector<Line> lines;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const Frame& frame = frames[i];
    // A return address is one behind its call, and may belong to the next line or function.
    const std::uint64_t call = frame.offset - (i == 0 && exact_first ? 0 : 1);
    std::vector<Line> here =
        frame.file < files.size() ? symboliser.lines_at(files[frame.file], call) : std::vector<Line>(1);
    if (here.back().function == "mp_call_watched") break;
    for (Line& line : here) {
      lines.push_back(std::move(line));
      if (lines.size() <= 16 && throws(lines.back().function)) begin = lines.size();
    }
  }
  std::size_t end = lines.size();
  while (end > begin && calls(lines[end - 1].function)) --end;
  if (end == begin) begin = 0, end = lines.size();
  std::string text;
  for (std::size_t i = begin; i < end; ++i) {
    const Line& line = lines[i];
    text += "#" + std::to_string(i - begin) + ' ' + (line.function.empty() ? "??" : line.function);
    if (!line.file.empty()) text += ' ' + line.file + ':' + std::to_string(line.line);
    else if (!line.module.empty()) text += " (" + line.module + ')';
    text += '\n';
  }
  return text;
}

}  // namespace mp::os

_Unwind_Reason_Code mp_watch_personality(int, _Unwind_Action actions, std::uint64_t, _Unwind_Exception*,
                                         _Unwind_Context* context) {
  if (actions & _UA_SEARCH_PHASE) {
    mp::os::Trace trace{mp::os::thrown.addresses, mp::os::kMaxStack, 0, _Unwind_GetCFA(context)};
    _Unwind_Backtrace(mp::os::note_frame, &trace);
    mp::os::thrown.count = trace.count;
  }
  return _URC_CONTINUE_UNWIND;
}
