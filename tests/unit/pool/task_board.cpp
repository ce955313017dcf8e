// The task board where one side of it is damaged: what names no slot and no segment leads nowhere.
#include <mp/pool/task_board.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <new>
#include <vector>

#include <mp/memory/ref.hpp>

namespace {

using mp::memory::Offset;
using mp::pool::Slot, mp::pool::TaskBoard, mp::pool::WorkerEntry;

// One worker's board with a segment of slots.
struct Board {
  mp::memory::Ref ref = mp::memory::create<TaskBoard>(mp::memory::Kind::board, 0, sizeof(WorkerEntry), 1u, 1u);
  TaskBoard& board = ref.as<TaskBoard>();
  Board() {
    new (&board.worker(0)) WorkerEntry{};
    board.grow();
  }
  ~Board() { board.free_blocks(); }
  // Its last members: the tables of the segments of slots and of the line.
  std::atomic<std::uint64_t>* end() { return reinterpret_cast<std::atomic<std::uint64_t>*>(&board + 1); }
  std::atomic<std::uint64_t>& slot_segment() { return *(end() - TaskBoard::kLineSegments - TaskBoard::kSlotSegments); }
  std::atomic<std::uint64_t>& line_segment() { return *(end() - TaskBoard::kLineSegments); }
};

// Where no segment can be: not aligned, in the arena's own tables, beyond its end.
std::vector<Offset> wrong_segments(Offset right) {
  return {right + 8, right - 32, 64, mp::memory::usage().capacity - 64, ~Offset{63}};
}

}  // namespace

TEST_CASE("an index that is no slot's leads to none, whatever lies behind the board") {
  Board b;
  CHECK(b.board.try_slot(0) == &b.board.slot(0));
  CHECK(b.board.try_slot(TaskBoard::kSlotsInSegment - 1) == &b.board.slot(TaskBoard::kSlotsInSegment - 1));
  CHECK(b.board.try_slot(TaskBoard::kSlotsInSegment) == nullptr);  // not grown so far
  // As many entries as the largest index is away, each a segment's.
  constexpr std::uint64_t kEntries = (std::uint64_t{1} << 32) / TaskBoard::kSlotsInSegment;
  const Offset behind = mp::memory::allocate(kEntries * sizeof(Offset), 64);
  REQUIRE(behind > b.ref.offset());
  REQUIRE(behind < b.ref.offset() + kEntries * sizeof(Offset));
  std::fill_n(mp::memory::at<Offset>(behind), kEntries, b.slot_segment().load());
  std::uint64_t found = 0;
  for (std::uint64_t segment = TaskBoard::kSlotSegments; segment < kEntries; ++segment)
    found += b.board.try_slot(static_cast<std::uint32_t>((segment + 1) * TaskBoard::kSlotsInSegment - 1)) != nullptr;
  CHECK(found == 0);
  mp::memory::deallocate(behind);
}

TEST_CASE("a segment of slots that is damaged holds none") {
  Board b;
  const Offset right = b.slot_segment().load();
  REQUIRE(b.board.try_slot(5) == mp::memory::at<Slot>(right) + 5);
  for (const Offset wrong : wrong_segments(right)) {
    CAPTURE(wrong);
    b.slot_segment().store(wrong);
    CHECK(b.board.try_slot(5) == nullptr);
  }
  b.slot_segment().store(right);
  CHECK(b.board.try_slot(5) == mp::memory::at<Slot>(right) + 5);
}

TEST_CASE("a segment of the line that is damaged has no task in it") {
  Board b;
  for (std::uint32_t slot : {0u, 1u, 2u, 3u, 4u}) b.board.post(slot, 1);
  b.board.close(false);
  const Offset right = b.line_segment().load();
  std::uint32_t index = 0;
  for (const Offset wrong : wrong_segments(right)) {
    CAPTURE(wrong);
    b.line_segment().store(wrong & ((Offset{1} << 38) - 1));  // above it is the segment's number
    CHECK(b.board.claim(0, index) == TaskBoard::Claim::leave);
  }
  b.line_segment().store(right);
  CHECK(b.board.claim(0, index) == TaskBoard::Claim::got);
  CHECK(index == 0);
}
