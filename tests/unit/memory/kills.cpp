// Processes killed at random instants while they allocate, free, take and drop references.
#include <mp/memory/arena.hpp>

#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <vector>

#include <mp/memory/family.hpp>
#include <mp/memory/ref.hpp>

#include "child.hpp"

using namespace mp::memory;
using namespace std::chrono_literals;

namespace {

constexpr int kKills = 150;

// Kills children that run `work(seed)` for ever, after a random while each, and retires them; `meanwhile` runs in between.
template <class Work, class Meanwhile>
void kill_many(Work work, Meanwhile meanwhile) {
  std::mt19937 random(2024);
  for (int i = 0; i < kKills; ++i) {
    test::Shared<std::atomic<Tag>> tag(0u);
    test::Child child([&] { work(static_cast<unsigned>(i), [&] { *tag = self(); }); });
    REQUIRE(test::eventually([&] { return *tag != kNobody; }));
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    child.kill();
    CHECK(retire(*tag));
    meanwhile(random);
  }
}

struct Block {
  Offset offset;
  std::size_t size;
  int byte;
};

}  // namespace

TEST_CASE("processes killed while they allocate and free never tear the arena") {
  std::vector<Block> kept;
  int next = 0;
  auto intact = [&](const Block& b) {
    for (std::size_t i = 0; i < b.size; ++i)
      if (at<unsigned char>(b.offset)[i] != static_cast<unsigned char>(b.byte)) return false;
    return true;
  };
  const auto mine = [&](std::mt19937& random) {
    for (int i = 0; i < 20; ++i) {
      std::size_t size = random() % 8 == 0 ? 33'000 + random() % 200'000 : 1 + random() % 3000;
      Block b{allocate(size), size, next++ % 256};
      std::memset(at<void>(b.offset), b.byte, size);
      kept.push_back(b);
    }
    while (kept.size() > 300) {
      std::swap(kept[random() % kept.size()], kept.back());
      REQUIRE(intact(kept.back()));
      deallocate(kept.back().offset);
      kept.pop_back();
    }
  };
  kill_many(
      [](unsigned seed, auto begun) {
        std::mt19937 random(seed);
        std::vector<Block> blocks;
        begun();
        for (;;) {
          std::size_t size = random() % 6 == 0 ? 33'000 + random() % 2'000'000 : 1 + random() % 9000;
          Offset offset = allocate(size);
          std::memset(at<void>(offset), 0xee, size);
          blocks.push_back({offset, size, 0});
          if (blocks.size() > 8) {
            std::swap(blocks[random() % blocks.size()], blocks.back());
            deallocate(blocks.back().offset);
            blocks.pop_back();
          }
        }
      },
      mine);
  for (const Block& b : kept) {
    CHECK(intact(b));
    deallocate(b.offset);
  }
  // What the killed had in hand is leaked, as documented: at most their nine blocks each. Nothing else is.
  CHECK(bytes_in_use() < kKills * 9 * std::size_t{2'100'000});
}

TEST_CASE("processes killed while they take and drop references free nothing early and leak next to nothing") {
  const std::size_t before = bytes_in_use();
  std::vector<Ref> ours;
  for (int i = 0; i < 20; ++i) ours.push_back(create<long>(Kind::value, 5, 0, i));
  const std::size_t with_ours = bytes_in_use();
  kill_many(
      [&](unsigned seed, auto begun) {
        std::mt19937 random(seed);
        std::vector<Ref> held;
        begun();
        for (;;) {
          held.push_back(random() % 2 ? ours[random() % ours.size()]
                                      : create<long>(Kind::bytes, 0, random() % 500, 0L));
          if (held.size() > 20) {
            std::swap(held[random() % held.size()], held.back());
            held.pop_back();
          }
        }
      },
      [&](std::mt19937&) {
        for (int i = 0; i < 20; ++i) {
          REQUIRE(is_object(ours[static_cast<std::size_t>(i)].offset(), Kind::value, 5));
          REQUIRE(ours[static_cast<std::size_t>(i)].as<long>() == i);
        }
      });
  // One object or count a kill, at worst, and the bags' places.
  CHECK(bytes_in_use() < with_ours + kKills * 8192);
  for (Ref& ref : ours) {
    Offset object = ref.offset();
    std::uint32_t too_many = header_of(object).holders - 1;
    CHECK(too_many <= kKills);
    ref = Ref();
    CHECK(is_object(object, Kind::value) == (too_many > 0));
  }
  CHECK(bytes_in_use() < before + kKills * 8192);
}
