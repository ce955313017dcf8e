// Sharing within one message: two shared_ptr to one object arrive as two shared_ptr to one object, as with Python's memo.
// Private to the room.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "mp/pickle/bytes.hpp"

namespace mp::pickle::detail {

// Numbers the objects in the order in which they are first met.
class SharedOut {
 public:
  enum class Met { first, before, inside };
  struct Place {
    Met met;
    std::uint64_t number;
  };
  // `inside`: the object is being written at this moment, so it points back to itself.
  Place meet(const void* object, std::uint64_t type);
  void finish(const void* object, std::uint64_t type) noexcept;

 private:
  struct Key {
    const void* object;
    std::uint64_t type;  // an object and its first member share an address
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    std::size_t operator()(const Key& k) const noexcept {
      return std::hash<const void*>()(k.object) ^ static_cast<std::size_t>(k.type);
    }
  };
  struct Entry {
    std::uint64_t number;
    bool finished;
  };
  std::unordered_map<Key, Entry, Hash> entries_;
};

class SharedIn {
 public:
  std::uint64_t reserve() {
    entries_.emplace_back();
    return entries_.size() - 1;
  }
  void fill(std::uint64_t number, std::shared_ptr<void> object, std::uint64_t type) {
    entries_[number] = {std::move(object), type};
  }
  // Throws UnpicklingError if there is no such object of that type yet.
  const std::shared_ptr<void>& find(std::uint64_t number, std::uint64_t type) const;

 private:
  struct Entry {
    std::shared_ptr<void> object;
    std::uint64_t type = 0;
  };
  std::vector<Entry> entries_;
};

}  // namespace mp::pickle::detail
