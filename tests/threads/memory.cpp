#include "mp/memory/arena.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <vector>

#include "mp/memory/ref.hpp"
#include "support.hpp"

namespace memory = mp::memory;

TEST_CASE("threads allocate and free, each other's blocks too") {
  memory::start();
  constexpr int kRounds = 2000, kPlaces = 64;
  std::atomic<memory::Offset> places[kPlaces]{};
  std::atomic<int> torn{0};
  test::in_threads(test::kThreads, [&](int n) {
    for (int i = 0; i < kRounds; ++i) {
      const std::size_t size = 16 + static_cast<std::size_t>((i * 37 + n * 11) % 3000);
      const memory::Offset mine = memory::allocate(size);
      std::memset(memory::at<char>(mine), n + 1, size);
      *memory::at<char>(mine) = static_cast<char>(n + 1);
      const memory::Offset other = places[(i + n) % kPlaces].exchange(mine, std::memory_order_acq_rel);
      if (other == 0) continue;
      const char* text = memory::at<char>(other);
      if (text[0] != text[15] || text[0] < 1 || text[0] > test::kThreads) ++torn;
      memory::deallocate(other);
    }
  });
  for (auto& place : places)
    if (const memory::Offset left = place.load()) memory::deallocate(left);
  CHECK(torn == 0);
}

TEST_CASE("threads copy and drop references to the same objects") {
  struct Plain {
    long value;
  };
  std::vector<memory::Ref> objects;
  for (long i = 0; i < 8; ++i) objects.push_back(memory::create<Plain>(memory::Kind::bytes, 0, 0, Plain{i}));
  std::atomic<long> wrong{0};
  test::in_threads(test::kThreads, [&](int n) {
    std::vector<memory::Ref> own;
    for (int i = 0; i < 4000; ++i) {
      const auto which = static_cast<std::size_t>((i + n) % 8);
      own.push_back(objects[which]);
      if (own.back().as<Plain>().value != static_cast<long>(which)) ++wrong;
      if (own.size() > 5) own.erase(own.begin());
      memory::Ref fresh = memory::create<Plain>(memory::Kind::bytes, 0, 0, Plain{n});
      if (fresh.as<Plain>().value != n) ++wrong;
    }
  });
  CHECK(wrong == 0);
}
