// How a task's failure is told: an exception on its way from the worker, with who threw it; and the crash of a worker, from
// what it wrote down while it died.
#pragma once

#include <cstdint>
#include <exception>
#include <string>

#include "mp/pickle/bytes.hpp"
#include "mp/pickle/code.hpp"
#include "mp/pickle/crashed.hpp"
#include "mp/pool/task_board.hpp"
#include "mp/process/record.hpp"

namespace mp::pool {

// In a worker, in a handler: writes the exception in flight, or what stands for it, and who this is. Throws std::bad_alloc.
void dump_failure(pickle::Writer& out, const std::exception_ptr& error = std::current_exception());

// Reads it. Never throws: what cannot be read is an UnpicklingError.
std::exception_ptr load_failure(pickle::Reader& in, std::uint64_t task, const std::string& task_name) noexcept;
// The same from a parcel that lies in a block, and from the slot of a task that is done without a value.
std::exception_ptr load_failure(const Parcel& from, std::uint64_t task, const std::string& task_name) noexcept;
std::exception_ptr load_failure(const Slot& from, std::uint64_t task, const std::string& task_name) noexcept;

// `error`, but where it is a LimitExceeded that a worker made of its own task, with what the call of `run` was.
std::exception_ptr with_call(const std::exception_ptr& error, pickle::CodeRef run) noexcept;

// What is known of the end of the process of `record`: what it wrote down itself, and what the kernel says.
CrashDetails details_of(const process::Record& record);

// How it ended, in words: "SIGSEGV, address 0x10 not mapped", "exited with status 3".
std::string end_text(const process::Record& record);

}  // namespace mp::pool
