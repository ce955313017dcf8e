// SharedMemory: a block of memory with a name that the whole machine knows, as Python's multiprocessing.shared_memory. What
// a family shares needs no name (Value, Array); this is for processes that are no family, and for memory that outlives
// its maker. Where it differs from Python's: attaching never owns (nothing is unlinked behind anybody's back, there is no
// tracker), all of it is committed at creation (a full /dev/shm is an exception there, not a SIGBUS later), and views keep
// the mapping.
//
// *Thread and process safety*: distinct handles, any threads; one handle like an int. The bytes are yours to protect, with a
// Lock, say. Copies, and fork children, share the mapping; a handle that is sent attaches anew by its name.
// *Memory ordering*: none of its own.
// *If a process is killed*: the object stays, with its name, until somebody calls unlink(). Killed while it creates one:
// complete under its name or not there.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace mp {

class SharedMemory {
 public:
  // Attaches to the object `name`, or with `create` makes a new one of `size` bytes, all zero, under `name` or a
  // generated one. A leading slash in `name` may stand or not. Throws ValueError (no name and no create, size 0, a name that
  // is none), OSError (errc::file_exists, no_such_file_or_directory, permission_denied, ...), SharedMemoryFull.
  explicit SharedMemory(const std::optional<std::string>& name = std::nullopt, bool create = false,
                        std::size_t size = 0);
  static SharedMemory create(std::size_t size) { return SharedMemory(std::nullopt, true, size); }

  const std::string& name() const noexcept { return name_; }  // without the slash
  std::size_t size() const noexcept { return size_; }         // what was asked for; of an attached one, what is there
  // The bytes; valid as long as a copy of this handle that is not closed, or a view(), lives. Empty after close().
  std::span<std::byte> buf() const noexcept { return {bytes_.get(), bytes_ ? size_ : 0}; }
  // The bytes with a share in the mapping: what holds it may outlive every handle. Throws ValueError after close().
  std::shared_ptr<std::byte[]> view() const;

  // Gives this handle's share in the mapping up. The object and its name stay.
  void close() noexcept { bytes_.reset(); }
  // Takes the name away, once for all processes; those who have mapped it go on. Throws OSError where there is no such name.
  void unlink();

  template <class Writer>
  void mp_pickle(Writer& out) const {
    out.put_text(name_);
  }
  template <class Reader>
  static SharedMemory mp_unpickle(Reader& in) {
    return SharedMemory(std::string(in.get_text("name of shared memory")));
  }

 private:
  std::string name_;
  std::size_t size_ = 0;
  std::shared_ptr<std::byte[]> bytes_;
};

}  // namespace mp
