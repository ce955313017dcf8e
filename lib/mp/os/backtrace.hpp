// Where an exception was thrown. When a handler is reached the stack between it and the throw is gone; so a task is called through a
// frame of its own (call_watched) whose personality routine, which the unwinder asks before it takes anything down, notes the return
// addresses. A task that throws nothing, or catches what it throws, pays nothing. Nobody's __cxa_throw is replaced.
// The other end of a stack: Stack, as files and offsets, which any process can turn into text. Python: traceback, and _RemoteTraceback.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace mp::os {

inline constexpr std::size_t kMaxStack = 128;

// Return addresses as module files and offsets from where the file's image begins: they mean the same in every process that has the files.
struct Stack {
  struct Frame {
    std::uint32_t file = 0;  // index into `files`; beyond: not in a file, and `offset` is the address
    std::uint64_t offset = 0;
  };
  std::vector<std::string> files;
  std::vector<Frame> frames;  // innermost first
  // Frame 0 is where an instruction was interrupted (a crash), not a return address.
  bool exact_first = false;

  // Lines "#0 function(args) file.cpp:42", what only the throwing and calling machinery is left out. Reads debug information: milliseconds
  // to tens of them. Throws std::bad_alloc only.
  std::string text() const;
};

// Raw return addresses of the calling thread, innermost first. Async-signal-safe after a first call.
std::size_t capture(void** addresses, std::size_t most) noexcept;

// Raw addresses with the modules they lie in.
Stack locate_stack(void* const* addresses, std::size_t count);

namespace detail {
void call_watched(void (*function)(void*), void* argument);
}

// Calls `f`; what it throws comes out, and thrown_stack() then tells where it was thrown (for a `throw;`, where that was). Costs a
// call.
template <class F>
void call_watched(F&& f) {
  detail::call_watched([](void* argument) { (*static_cast<std::remove_reference_t<F>*>(argument))(); },
                       const_cast<void*>(static_cast<const void*>(&f)));
}

// Of the exception that last left call_watched in this thread; empty if there was none since the last call of either.
Stack thrown_stack();

}  // namespace mp::os
