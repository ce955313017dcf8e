#include "mp/pickle/bytes.hpp"

#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "mp/errors.hpp"
#include "mp/memory/ref.hpp"
#include "mp/os/mapping.hpp"
#include "mp/pickle/shared.hpp"

namespace mp::pickle {

namespace {

// From this size on a piece is worth an arena block at once: it is copied one time less, and room to grow costs little beside it.
constexpr std::size_t kLargePiece = 64 * 1024;

// A block of `size` bytes and what its pages hold beyond; null if the arena is full: the heap will do then, and whoever seals the message
// says that there is no room.
std::unique_ptr<memory::NewBlock> new_block(std::size_t& size) {
  try {
    auto block = std::make_unique<memory::NewBlock>(size);
    size = memory::block_size(block->offset());
    memory::map_ahead(memory::at<void>(block->offset()), size);
    return block;
  } catch (const SharedMemoryFull&) {
    return nullptr;
  }
}

}  // namespace

void Writer::free_spill() noexcept {
  if (block_ != nullptr) delete block_;
  else std::free(spill_);
}

void Writer::dispose() noexcept {
  clear();
  free_spill();
}

void Writer::clear() noexcept {
  for (memory::Offset object : carried_) memory::release(object);
  carried_.clear();
  pos_ = begin_;
  depth_ = 0;
  forget_shared();
}

void Writer::forget_shared() noexcept {
  delete shared_;
  shared_ = nullptr;
}

void Writer::carry(memory::Offset object) {
  carried_.push_back(object);
  memory::retain(object);
}

void Writer::grow(std::size_t more) {
  const std::size_t used = size();
  std::size_t wanted = used + more;
  if (wanted < used) throw std::bad_alloc();
  // As much as is asked for where that is most of it; otherwise room for more of its like.
  wanted = wanted < 1024 ? 1024 : more > used && more >= kLargePiece ? wanted : wanted + wanted / 2;
  std::unique_ptr<memory::NewBlock> block;
  if (in_block() || (more >= kLargePiece && memory::contains(begin_))) block = new_block(wanted);
  const bool moves = block || in_block() || spill_ == nullptr;  // which realloc() may save
  auto* to = block ? memory::at<std::byte>(block->offset())
                   : static_cast<std::byte*>(std::realloc(moves ? nullptr : spill_, wanted));
  if (to == nullptr) throw std::bad_alloc();
  if (moves) {
    if (used != 0) std::memcpy(to, begin_, used);
    free_spill();
  }
  block_ = block.release();
  spill_ = begin_ = to;
  pos_ = to + used;
  limit_ = to + wanted;
}

void Writer::give_block(memory::Offset& to) noexcept {
  to = block_->hand_out();
  delete std::exchange(block_, nullptr);
  spill_ = nullptr;
  pos_ = limit_ = begin_;
}

detail::SharedOut& Writer::shared() {
  if (shared_ == nullptr) shared_ = new detail::SharedOut;
  return *shared_;
}

void Reader::dispose() noexcept { delete shared_; }

detail::SharedIn& Reader::shared() {
  if (shared_ == nullptr) shared_ = new detail::SharedIn;
  return *shared_;
}

std::uint64_t Reader::get_varint(std::string_view what) {
  std::uint64_t n = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = get<std::uint8_t>(what);
    if (shift == 63 && byte > 1) malformed(what, "its length has more than 64 bits");
    n |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return n;
  }
}

std::size_t Reader::get_size(std::size_t each, std::string_view what) {
  const std::uint64_t n = get_varint(what);
  if (n > remaining() / each) [[unlikely]] {
    malformed(what, "its length is given as " + std::to_string(n) + ", but only " + std::to_string(remaining()) +
                        " bytes are left in the message");
  }
  return static_cast<std::size_t>(n);
}

void Reader::ends_within(std::size_t size, std::string_view what) const {
  malformed(what, "the message ends " + std::to_string(size - remaining()) + " bytes too early");
}

void about_to_fill(void* begin, std::size_t size) noexcept {
  // From here on malloc gives every block a mapping of its own (M_MMAP_THRESHOLD at its most): the hint concerns nothing else, and
  // is gone with the block.
  constexpr std::size_t kOwnMapping = 32u << 20;
  if (size >= kOwnMapping) os::prefer_huge_pages(begin, size);
}

void malformed(std::string_view what, std::string_view why) {
  std::string text = "cannot read a ";
  text.append(what).append(": ").append(why);
  throw UnpicklingError(text);
}

namespace detail {

void too_deep_to_write() {
  throw PicklingError("cannot send a value that is nested more than " + std::to_string(kMaxDepth) +
                      " levels deep; send it as a flat container");
}

void too_deep_to_read() { malformed("value", "it is nested more than " + std::to_string(kMaxDepth) + " levels deep"); }

SharedOut::Place SharedOut::meet(const void* object, std::uint64_t type) {
  auto [found, fresh] = entries_.try_emplace({object, type}, Entry{entries_.size(), false});
  return {fresh ? Met::first : found->second.finished ? Met::before : Met::inside, found->second.number};
}

void SharedOut::finish(const void* object, std::uint64_t type) noexcept {
  entries_.find({object, type})->second.finished = true;
}

const std::shared_ptr<void>& SharedIn::find(std::uint64_t number, std::uint64_t type) const {
  if (number >= entries_.size() || entries_[number].type != type || !entries_[number].object)
    malformed("shared_ptr", "it names an object that did not come before it in the message");
  return entries_[number].object;
}

}  // namespace detail
}  // namespace mp::pickle
