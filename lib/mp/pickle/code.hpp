// Addresses of functions in a form that another process understands: which module (program or shared library, by its
// build-id) and how far from its load address. Python pickles a function as module and name; here ASLR, PIE and dlopen()
// are no obstacle, and a different binary is refused. Used for trampolines and function pointers.
#pragma once

#include <cstdint>

#include "mp/os/module.hpp"

namespace mp::pickle {

using CodeRef = os::ModuleAddress;  // { std::uint64_t module, offset; }

namespace detail {
CodeRef library_code_ref(const void* function);
const void* library_code_address(CodeRef ref);
}  // namespace detail

// Throws PicklingError if `function` lies in no loaded module (code made at run time). A comparison for the main program,
// some 50 ns for a shared library.
inline CodeRef code_ref(const void* function) {
  if (auto found = os::program_code.locate(function)) [[likely]]
    return *found;
  return detail::library_code_ref(function);
}

// The same function in this process. Throws UnpicklingError if the module is not loaded here (or is another build) or
// the offset is not in its code.
inline const void* code_address(CodeRef ref) {
  if (const void* found = os::program_code.resolve(ref)) [[likely]]
    return found;
  return detail::library_code_address(ref);
}

template <class R, class... A>
CodeRef code_ref(R (*function)(A...)) {
  return code_ref(reinterpret_cast<const void*>(function));
}
template <class Function>
Function code_as(CodeRef ref) {
  return reinterpret_cast<Function>(const_cast<void*>(code_address(ref)));
}

}  // namespace mp::pickle
