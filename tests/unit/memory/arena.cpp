// The allocator by itself: blocks, alignment, reuse, what goes back to the kernel, what is refused.
#include <mp/memory/arena.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include <mp/errors.hpp>
#include <mp/memory/family.hpp>
#include <mp/os/call.hpp>

#include "child.hpp"

using namespace std::chrono_literals;
using namespace mp::memory;

namespace {

// Runs `f` in a child whose standard error goes nowhere: a program that is meant to stop says why.
template <class F>
int quietly_in_child(F f) {
  return test::in_child([&] {
    int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    ::dup2(null, STDERR_FILENO);
    f();
  });
}

int refuse_fallocate(mp::os::Call call) noexcept { return call == mp::os::Call::fallocate ? ENOSPC : 0; }

struct MemoryIsFull {
  MemoryIsFull() { mp::os::fault_hook = refuse_fallocate; }
  ~MemoryIsFull() { mp::os::fault_hook = nullptr; }
};

}  // namespace

TEST_CASE("blocks of every size are large enough, aligned, and do not overlap") {
  std::map<Offset, std::size_t> blocks;
  for (std::size_t size : {0,   1,   15,   16,   31,   32,    33,    64,    100,   128,   129,    255,
                           256, 257, 1000, 4096, 5000, 32767, 32768, 32769, 65536, 65537, 300'000}) {
    for (int i = 0; i < 5; ++i) {
      Offset block = allocate(size);
      CHECK(block % 16 == 0);
      CHECK(block_size(block) >= size);
      std::memset(at<void>(block), 0x5a, size);
      CHECK(blocks.emplace(block, size).second);
    }
  }
  Offset end = 0;
  for (auto [block, size] : blocks) {
    CHECK(block >= end);
    end = block + size;
  }
  for (auto [block, size] : blocks) deallocate(block);
}

TEST_CASE("alignments up to a page are kept") {
  for (std::size_t align = 16; align <= 65536; align *= 2) {
    for (std::size_t size : {1, 100, 5000, 40'000, 70'000}) {
      Offset block = allocate(size, align);
      CHECK(block % align == 0);
      CHECK(reinterpret_cast<std::uintptr_t>(at<void>(block)) % std::min<std::size_t>(align, 4096) == 0);
      CHECK(block_size(block) >= size);
      deallocate(block);
    }
  }
}

TEST_CASE("freed blocks are used again") {
  std::size_t before = bytes_in_use();
  for (int round = 0; round < 3; ++round) {
    std::vector<Offset> blocks;
    for (int i = 0; i < 10'000; ++i) blocks.push_back(allocate(64 + static_cast<std::size_t>(i % 7) * 100));
    CHECK(bytes_in_use() > before);
    for (Offset b : blocks) deallocate(b);
    CHECK(bytes_in_use() == before);
    static std::size_t committed = usage().committed;
    CHECK(usage().committed == committed);
  }
}

TEST_CASE("freed large blocks stay for the next taker, but no more of them than may lie idle") {
  constexpr std::size_t kMostIdle = 256u << 20, kBlock = 8u << 20;
  deallocate(allocate(kBlock));
  const std::size_t committed = usage().committed;
  for (int i = 0; i < 10; ++i) deallocate(allocate(kBlock));
  CHECK(usage().committed == committed);

  const std::size_t in_use = bytes_in_use();
  std::vector<Offset> blocks;
  for (std::size_t i = 0; i < 2 * kMostIdle / kBlock; ++i) blocks.push_back(allocate(kBlock));
  CHECK(usage().committed >= 2 * kMostIdle);
  for (Offset b : blocks) deallocate(b);
  CHECK(bytes_in_use() == in_use);
  // Beside what is idle: what is in use, partly used slabs, and the tables.
  CHECK(usage().committed < in_use + kMostIdle + (16u << 20));

  Offset beyond = allocate(kMostIdle + kBlock);
  deallocate(beyond);
  CHECK(usage().committed < in_use + kMostIdle + (16u << 20));
}

TEST_CASE("memory that is idle when none is left is given back for it") {
  CHECK(test::in_child([] {
          deallocate(allocate(64u << 20));
          const std::size_t before = usage().committed;
          static int refusals = 1;
          mp::os::fault_hook = [](mp::os::Call call) noexcept {
            return call == mp::os::Call::fallocate && refusals-- > 0 ? ENOSPC : 0;
          };
          allocate(80u << 20);  // too large for what is idle
          return usage().committed < before + (20u << 20) ? 0 : 1;
        }) == 0);
}

TEST_CASE("zeroed blocks are zero, wherever their memory was before") {
  for (std::size_t size : {40, 1000, 30'000, 70'000, 300'000, 5'000'000}) {
    for (int round = 0; round < 3; ++round) {
      Offset block = allocate(size, 16, Content::zero);
      auto* bytes = at<unsigned char>(block);
      CHECK(std::all_of(bytes, bytes + size, [](unsigned char c) { return c == 0; }));
      std::memset(bytes, 0xff, size);
      deallocate(block);
    }
  }
}

TEST_CASE("any place within a block names it") {
  for (std::size_t size : {50, 3000, 200'000}) {
    Offset block = allocate(size);
    CHECK(block_size(block + size - 1) == block_size(block));
    deallocate(block + size / 2);
    CHECK(block_size(block) == 0);
  }
}

TEST_CASE("block_size says 0 for whatever is no block") {
  Offset block = allocate(100);
  deallocate(block);
  CHECK(block_size(block) == 0);
  CHECK(block_size(0) == 0);
  CHECK(block_size(8) == 0);
  CHECK(block_size(~Offset{0}) == 0);
  CHECK(block_size(usage().capacity) == 0);
  std::mt19937_64 random(1);
  for (int i = 0; i < 1'000'000; ++i) block_size(random() >> random() % 64);
}

TEST_CASE("freeing twice, or what is no block, stops the program") {
  CHECK(quietly_in_child([] {
          Offset block = allocate(100);
          deallocate(block);
          deallocate(block);
        }) == -SIGABRT);
  CHECK(quietly_in_child([] {
          Offset block = allocate(1 << 20);
          deallocate(block);
          deallocate(block);
        }) == -SIGABRT);
  CHECK(quietly_in_child([] { deallocate(12345); }) == -SIGABRT);
  CHECK(quietly_in_child([] { deallocate(~Offset{0}); }) == -SIGABRT);
  CHECK(quietly_in_child([] {
          // Blocks of 160 bytes leave 96 over at the end of their page.
          Offset block = allocate(150), page = block / 65536 * 65536;
          deallocate(page + 65536 - 10);
        }) == -SIGABRT);
}

TEST_CASE("full memory is an error with figures, and memory is usable afterwards") {
  Offset small = allocate(100);
  std::size_t before = bytes_in_use();
  {
    MemoryIsFull full;
    try {
      allocate(10 << 20);
      FAIL("memory that cannot be committed was handed out");
    } catch (const mp::SharedMemoryFull& e) {
      CHECK(e.asked() == 10 << 20);
      CHECK(e.used() > 0);
      CHECK(e.allowed() > e.used());
    }
    // Small blocks, until the committed pages are used up.
    std::vector<Offset> taken;
    CHECK_THROWS_AS(
        [&] {
          for (;;) taken.push_back(allocate(30'000));
        }(),
        mp::SharedMemoryFull);
    for (Offset b : taken) deallocate(b);
  }
  CHECK(bytes_in_use() == before);
  Offset large = allocate(10 << 20);
  std::memset(at<void>(large), 1, 10 << 20);
  deallocate(large);
  deallocate(small);
  CHECK_THROWS_AS(allocate(std::size_t{1} << 50), mp::SharedMemoryFull);
  CHECK_THROWS_AS(allocate(~std::size_t{0} / 2), mp::SharedMemoryFull);
}

TEST_CASE("a full memory takes back what lies idle before it gives up") {
  // A child of its own, so that its slabs are known.
  CHECK(test::in_child([] {
          std::vector<Offset> blocks;
          for (int i = 0; i < 1000; ++i) blocks.push_back(allocate(1000));
          for (Offset b : blocks) deallocate(b);
          std::size_t before = usage().committed;
          // Full for the first that asks, until that has given something back.
          static int refusals = 1;
          mp::os::fault_hook = [](mp::os::Call call) noexcept {
            return call == mp::os::Call::fallocate && refusals-- > 0 ? ENOSPC : 0;
          };
          allocate(5 << 20);
          return usage().committed < before + (5 << 20) - 10 * 65536 ? 0 : 1;
        }) == 0);
}

TEST_CASE("a block may be freed by another process, and is used again by the one it came from") {
  std::vector<Offset> blocks;
  for (int i = 0; i < 1000; ++i) blocks.push_back(allocate(200));
  std::size_t full = bytes_in_use();
  CHECK(test::in_child([&] {
          for (Offset b : blocks) deallocate(b);
        }) == 0);
  CHECK(bytes_in_use() <= full - 1000 * 200);
  std::size_t committed = usage().committed;
  for (Offset& b : blocks) b = allocate(200);
  CHECK(usage().committed == committed);
  for (Offset b : blocks) deallocate(b);
}

TEST_CASE("a block means the same in a process forked before it was allocated") {
  test::Shared<std::atomic<Offset>> told(0);
  start();
  test::Child child([&] {
    if (!test::eventually([&] { return told->load() != 0; })) return 1;
    return std::strcmp(at<char>(*told), "hello") == 0 ? 0 : 2;
  });
  Offset block = allocate(1 << 20);
  std::strcpy(at<char>(block), "hello");
  *told = block;
  CHECK(child.wait() == 0);
  deallocate(block);
}

TEST_CASE("threads that allocate and free at once get blocks of their own") {
  std::size_t before = bytes_in_use();
  std::atomic<int> wrong{0};
  auto work = [&](unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::pair<Offset, std::size_t>> mine;
    for (int i = 0; i < 20'000; ++i) {
      if (mine.size() > 100 || (!mine.empty() && random() % 2)) {
        std::swap(mine[random() % mine.size()], mine.back());
        auto [block, size] = mine.back();
        auto* bytes = at<unsigned char>(block);
        if (bytes[0] != static_cast<unsigned char>(seed) || bytes[size - 1] != static_cast<unsigned char>(seed))
          ++wrong;
        deallocate(block);
        mine.pop_back();
      } else {
        std::size_t size = 1 + random() % (random() % 100 == 0 ? 200'000 : 2000);
        Offset block = allocate(size);
        std::memset(at<void>(block), static_cast<int>(seed), size);
        mine.emplace_back(block, size);
      }
    }
    for (auto [block, size] : mine) deallocate(block);
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i <= 4; ++i) threads.emplace_back(work, i);
  for (auto& t : threads) t.join();
  CHECK(wrong == 0);
  CHECK(bytes_in_use() == before);
}

TEST_CASE("a child that is forked while other threads allocate can allocate") {
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i)
    threads.emplace_back([&] {
      while (!stop) deallocate(allocate(300));
    });
  bool well = true;
  for (int i = 0; i < 100; ++i) {
    test::Child child([] {
      for (int n = 0; n < 100; ++n) deallocate(allocate(300));
    });
    well = well && child.ends_within(10s);
  }
  stop = true;
  for (auto& t : threads) t.join();
  CHECK(well);
}

TEST_CASE("what another process says of a block is believed only if all of it lies in one") {
  for (std::size_t size : {100, 20'000, 300'000}) {
    const Offset block = allocate(size, 64);
    const std::size_t whole = block_size(block);
    CHECK(block_at(block, whole) == at<std::byte>(block));
    CHECK(block_at(block, whole + 1) == nullptr);
    CHECK(room_at(block + 10) == whole - 10);
    CHECK(block_at(block + 10, whole - 9) == nullptr);
    CHECK(block_at(block, ~std::size_t{0}) == nullptr);
    CHECK(array_at<std::uint64_t>(block, whole / 8) != nullptr);
    CHECK(array_at<std::uint64_t>(block, whole / 8 + 1) == nullptr);
    CHECK(array_at<std::uint64_t>(block + 4, 1) == nullptr);
    // 2^61 * 8 is 0 in 64 bits.
    CHECK(array_at<std::uint64_t>(block, std::uint64_t{1} << 61) == nullptr);
    CHECK_FALSE(try_deallocate(block + 8));
    CHECK(try_deallocate(block));
    CHECK_FALSE(try_deallocate(block));
    CHECK(block_at(block, 1) == nullptr);
    CHECK(block_at(block, 0) == nullptr);
  }
  CHECK_FALSE(try_deallocate(0));
  CHECK_FALSE(try_deallocate(~Offset{0}));
  CHECK_FALSE(lies_inside(0, 1));
  CHECK_FALSE(lies_inside(4096, 1));
  CHECK_FALSE(lies_inside(usage().capacity - 1, 2));
  CHECK_FALSE(lies_inside(~Offset{0}, 2));
}
