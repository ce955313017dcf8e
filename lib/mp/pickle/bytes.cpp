#include "mp/pickle/bytes.hpp"

#include <cstdlib>
#include <new>
#include <string>

#include "mp/errors.hpp"
#include "mp/memory/ref.hpp"
#include "mp/pickle/shared.hpp"

namespace mp::pickle {

void Writer::dispose() noexcept {
  clear();
  std::free(heap_);
}

void Writer::clear() noexcept {
  for (memory::Offset object : carried_) memory::release(object);
  carried_.clear();
  pos_ = begin_;
  depth_ = 0;
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
  wanted = wanted < 1024 ? 1024 : wanted + wanted / 2;
  auto* bigger = static_cast<std::byte*>(std::realloc(heap_, wanted));
  if (bigger == nullptr) throw std::bad_alloc();
  if (heap_ == nullptr && used != 0) std::memcpy(bigger, begin_, used);
  heap_ = begin_ = bigger;
  pos_ = bigger + used;
  limit_ = bigger + wanted;
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
