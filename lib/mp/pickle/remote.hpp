// What is known of an exception that was thrown in another process. It is rethrown as its own type where that is known to both sides
// (exception.hpp), else as RemoteError; remote_of() gives the details of either. Python: RemoteTraceback, as __cause__.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "mp/errors.hpp"
#include "mp/os/backtrace.hpp"

namespace mp {

// *Thread safety*: const after it was made; stack_text() may be called by several threads.
struct RemoteDetails {
  std::string type;                 // as written in the source: "BadScene"
  std::string what;                 // its text; empty if it had none
  std::vector<std::string> nested;  // "type: what" of the exceptions nested in it, outermost first
  std::string worker;               // name of the process it was thrown in; empty if not known
  pid_t pid = 0;
  std::uint64_t task = 0;  // its number in its pool; 0: not of a task
  std::string task_name;
  os::Stack stack;  // where it was thrown; empty if not known

  // The stack as text, symbols looked up at the first call: milliseconds to tens of them.
  const std::string& stack_text() const;
  // Everything, over several lines: type, what, nested, who, stack.
  std::string report() const;

 private:
  // A copy makes its own: another thread may be making this one.
  struct Text {
    Text() = default;
    Text(const Text&) noexcept {}
    Text& operator=(const Text&) noexcept { return *this; }
    std::shared_ptr<const std::string> lines;
  };
  mutable Text text_;
};

// The part that every exception from another process has beside its own type.
class RemoteCarrier {
 public:
  explicit RemoteCarrier(std::shared_ptr<const RemoteDetails> details) noexcept : details_(std::move(details)) {}
  virtual ~RemoteCarrier() = default;
  const RemoteDetails& details() const noexcept { return *details_; }

 protected:
  RemoteCarrier(const RemoteCarrier&) = default;
  RemoteCarrier& operator=(const RemoteCarrier&) = default;

 private:
  std::shared_ptr<const RemoteDetails> details_;
};

// An exception of a type that is not known here. what() is "type: text".
class RemoteError : public Error, public RemoteCarrier {
 public:
  explicit RemoteError(std::shared_ptr<const RemoteDetails> details);
  const std::string& type() const noexcept { return details().type; }
};

// The details of an exception that came from another process; nullptr for one that was thrown here.
const RemoteDetails* remote_of(const std::exception& e) noexcept;
const RemoteDetails* remote_of(const std::exception_ptr& e) noexcept;

}  // namespace mp
