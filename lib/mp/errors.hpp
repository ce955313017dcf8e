// The one tree of errors. Every exception that leaves the library is one of these (or the user's own).
// Python's names where Python has one; USAGE of the crash and remote details is in pickle/exception.hpp.
#pragma once

#include <stdexcept>
#include <string>
#include <system_error>

namespace mp {

// Root of the tree: `catch (const mp::Error&)` takes everything the library throws.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A bad argument or a call in a state that does not allow it (Python's ValueError, AssertionError, RuntimeError).
class ValueError : public Error {
 public:
  using Error::Error;
};

// A system call failed: which call, on what, and the errno. code() compares with std::errc.
class OSError : public Error {
 public:
  OSError(int error, const std::string& call, const std::string& object = {}, const std::string& hint = {})
      : Error(call + (object.empty() ? "" : " " + object) + ": " + std::generic_category().message(error) +
              (hint.empty() ? "" : " (" + hint + ")")),
        code_(error, std::generic_category()) {}
  const std::error_code& code() const noexcept { return code_; }

 private:
  std::error_code code_;
};

// Python's EOFError: the other end of a connection is gone and everything it sent has been received.
class EOFError : public Error {
 public:
  using Error::Error;
};

// Python's BrokenPipeError: sending to a connection whose other end is gone.
class BrokenPipeError : public OSError {
 public:
  using OSError::OSError;
};

class ProcessError : public Error {
 public:
  using Error::Error;
};

// recv_bytes_into a buffer that is too small; the complete message is in message().
class BufferTooShort : public ProcessError {
 public:
  explicit BufferTooShort(std::string message)
      : ProcessError("buffer too short for a message of " + std::to_string(message.size()) + " bytes"),
        message_(std::move(message)) {}
  const std::string& message() const noexcept { return message_; }

 private:
  std::string message_;
};

// A wait was given up, or (TaskTimeout, pickle/crashed.hpp) a task was ended for taking too long.
class TimeoutError : public ProcessError {
 public:
  using ProcessError::ProcessError;
};

class AuthenticationError : public ProcessError {
 public:
  using ProcessError::ProcessError;
};

// Queue: nothing there within the time allowed.
class Empty : public Error {
 public:
  Empty() : Error("queue is empty") {}
};

// Queue: no room within the time allowed.
class Full : public Error {
 public:
  Full() : Error("queue is full") {}
};

// Queue: shut down; a put is refused, a get finds nothing more (Python 3.13's queue.ShutDown).
class ShutDown : public Error {
 public:
  ShutDown() : Error("queue is shut down") {}
};

class BrokenBarrierError : public Error {
 public:
  BrokenBarrierError() : Error("barrier is broken") {}
};

class PicklingError : public Error {
 public:
  using Error::Error;
};

class UnpicklingError : public Error {
 public:
  using Error::Error;
};

class CancelledError : public Error {
 public:
  CancelledError() : Error("the task was cancelled") {}
  using Error::Error;
};

class InvalidStateError : public Error {
 public:
  using Error::Error;
};

class BrokenExecutor : public Error {
 public:
  using Error::Error;
};

class BrokenProcessPool : public BrokenExecutor {
 public:
  using BrokenExecutor::BrokenExecutor;
};

class BrokenThreadPool : public BrokenExecutor {
 public:
  using BrokenExecutor::BrokenExecutor;
};

// Shared memory is full: what was asked, what is used, what is allowed (bytes).
class SharedMemoryFull : public Error {
 public:
  SharedMemoryFull(std::size_t asked, std::size_t used, std::size_t allowed)
      : Error("shared memory is full: " + std::to_string(asked) + " bytes asked, " + std::to_string(used) + " used, " +
              std::to_string(allowed) + " allowed"),
        asked_(asked),
        used_(used),
        allowed_(allowed) {}
  std::size_t asked() const noexcept { return asked_; }
  std::size_t used() const noexcept { return used_; }
  std::size_t allowed() const noexcept { return allowed_; }

 private:
  std::size_t asked_, used_, allowed_;
};

// The process that held a lock (or a semaphore's token) died without giving it back: recover() makes it usable again.
class OwnerDied : public Error {
 public:
  using Error::Error;
};

}  // namespace mp
