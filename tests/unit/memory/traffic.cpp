// The allocator under traffic: blocks that come and go, and that one process makes and another frees.
#include <mp/memory/arena.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "child.hpp"

using namespace mp::memory;

namespace {

// A block says how large it is and is filled with a byte that follows from it.
Offset make(std::size_t size) {
  Offset block = allocate(size);
  *at<std::size_t>(block) = size;
  std::memset(at<char>(block) + 8, static_cast<int>(size % 251), size - 8);
  return block;
}

bool intact(Offset block) {
  std::size_t size = *at<std::size_t>(block);
  const auto* bytes = at<unsigned char>(block);
  return size <= block_size(block) &&
         std::all_of(bytes + 8, bytes + size, [&](unsigned char c) { return c == size % 251; });
}

}  // namespace

TEST_CASE("traffic of blocks of one size commits no more than the first of them, however much was in use before") {
  deallocate(allocate(32 << 20));
  for (std::size_t size : {40, 3000, 40'000, 300'000}) {
    deallocate(allocate(size));
    const std::size_t committed = usage().committed;
    for (int i = 0; i < 3000; ++i) deallocate(allocate(size));
    CHECK(usage().committed == committed);
  }
}

TEST_CASE("threads and processes pass blocks to each other, each freed by whoever has it") {
  constexpr int kBoxes = 64, kSteps = 4000;
  const std::size_t before = bytes_in_use();
  test::Shared<std::array<std::atomic<Offset>, kBoxes>> boxes;
  auto work = [&](unsigned seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < kSteps; ++i) {
      Offset block = make(random() % 20 == 0 ? 40'000 + random() % 100'000 : 8 + random() % 2000);
      block = (*boxes)[random() % kBoxes].exchange(block);
      if (block == 0) continue;
      if (!intact(block)) return 1;
      deallocate(block);
    }
    return 0;
  };
  auto team = test::children(2, [&](int i) { return work(static_cast<unsigned>(i)); });
  int a = 1, b = 1;
  std::thread first([&] { a = work(10); }), second([&] { b = work(11); });
  first.join();
  second.join();
  CHECK(a + b == 0);
  CHECK(test::all_succeed(team));
  for (auto& box : *boxes)
    if (Offset block = box.load()) deallocate(block);
  CHECK(bytes_in_use() == before);
}
