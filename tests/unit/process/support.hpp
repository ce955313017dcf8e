// What the process tests share: the three start methods as types, and words of shared memory that children report in.
#pragma once

#include <poll.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "mp/memory/ref.hpp"
#include "mp/process/process.hpp"
#include "sanitized.hpp"

namespace test {

struct Fork {
  static constexpr mp::StartMethod method = mp::fork;
};
struct Spawn {
  static constexpr mp::StartMethod method = mp::spawn;
};
struct Forkserver {
  static constexpr mp::StartMethod method = mp::forkserver;
};

// Eight words in the arena; `offset()` is what a child is given.
class Words {
 public:
  Words() : ref_(mp::memory::create<Array>(mp::memory::Kind::value, 0, 0)) {}
  mp::memory::Offset offset() const { return ref_.offset(); }
  std::atomic<std::int64_t>& operator[](int i) const { return ref_.as<Array>().word[i]; }
  // Waits for a child to write the word: at most 10 s, then 0.
  std::int64_t await(int i) const {
    for (int tries = 0; tries < 10'000; ++tries) {
      if (std::int64_t value = (*this)[i].load()) return value;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return 0;
  }
  static std::atomic<std::int64_t>& at(mp::memory::Offset offset, int i) {
    return mp::memory::at<Array>(offset)->word[i];
  }

 private:
  struct Array {
    std::atomic<std::int64_t> word[8];
  };
  mp::memory::Ref ref_;
};

inline bool readable(int fd, std::chrono::milliseconds limit) {
  pollfd p{fd, POLLIN, 0};
  return ::poll(&p, 1, static_cast<int>(limit.count())) > 0;
}

}  // namespace test
