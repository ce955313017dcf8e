#include "mp/pickle/value.hpp"

#include <atomic>
#include <future>
#include <ios>
#include <string>

#include "mp/errors.hpp"
#include "mp/os/symbol.hpp"
#include "mp/pickle/shared.hpp"

namespace mp::pickle {
namespace {

constinit std::atomic<detail::TypeNote*> notes{nullptr};

// The categories that every process has. Others have no name that a second process could look up.
const std::error_category* const* known_categories() {
  static const std::error_category* const known[] = {&std::generic_category(), &std::system_category(),
                                                     &std::iostream_category(), &std::future_category(), nullptr};
  return known;
}

std::string spelled_or_number(std::uint64_t fingerprint) {
  if (std::string_view name = name_of(fingerprint); !name.empty()) return std::string(name);
  return "type with fingerprint " + std::to_string(fingerprint) + " that this program does not know";
}

}  // namespace

std::string_view name_of(std::uint64_t fingerprint) noexcept {
  for (const auto* note = notes.load(std::memory_order_acquire); note != nullptr; note = note->next)
    if (note->fingerprint == fingerprint) return note->name;
  return {};
}

namespace detail {

TypeNote::TypeNote(std::uint64_t type, std::string_view spelling) noexcept
    : fingerprint(type),
      name(spelling),
      next(notes.load(std::memory_order_relaxed)) {
  while (!notes.compare_exchange_weak(next, this, std::memory_order_release, std::memory_order_relaxed)) {}
}

void wrong_type(std::uint64_t found, std::string_view wanted) {
  malformed(wanted, "the message holds a " + spelled_or_number(found));
}

std::string string_of(const Writer& w) {
  if (!w.carried().empty())
    throw PicklingError(
        "cannot put a shared object into a string of bytes, where nothing would keep it alive; send it through a "
        "queue, a pipe or as an argument");
  return {reinterpret_cast<const char*>(w.bytes().data()), w.size()};
}

void expect_end(const Reader& r, std::string_view what) {
  if (r.remaining() != 0) malformed(what, std::to_string(r.remaining()) + " bytes are left over behind it");
}

void dump_category(Writer& w, const std::error_category& category) {
  for (auto* known = known_categories(); *known != nullptr; ++known) {
    if (**known != category) continue;
    w.put(static_cast<std::uint8_t>(known - known_categories()));
    return;
  }
  throw PicklingError(
      std::string("cannot send an error code of category \"") + category.name() +
      "\": only generic, system, iostream and future are known in every process; send its value and message");
}

const std::error_category& load_category(Reader& r) {
  const auto which = r.get<std::uint8_t>("std::error_category");
  if (which > 3) malformed("std::error_category", "it is none of the known ones");
  return *known_categories()[which];
}

bool meet_shared(Writer& w, const void* object, std::uint64_t type) {
  const auto [met, number] = w.shared().meet(object, type);
  if (met == SharedOut::Met::inside)
    throw PicklingError(
        "cannot send a cycle of shared_ptr or weak_ptr: an object points back to itself; send the parts and "
        "tie them together on the other side");
  w.put(static_cast<std::uint8_t>(met == SharedOut::Met::first ? Pointee::first : Pointee::before));
  if (met == SharedOut::Met::first) return true;
  w.put_size(number);
  return false;
}

void finish_shared(Writer& w, const void* object, std::uint64_t type) noexcept { w.shared().finish(object, type); }

std::uint64_t reserve_shared(Reader& r) { return r.shared().reserve(); }

void fill_shared(Reader& r, std::uint64_t number, std::shared_ptr<void> object, std::uint64_t type) {
  r.shared().fill(number, std::move(object), type);
}

std::shared_ptr<void> find_shared(Reader& r, std::uint64_t type) {
  return r.shared().find(r.get_varint("shared_ptr"), type);
}

void refuse_slicing(std::string_view pointer, const std::type_info& object) {
  throw PicklingError(
      "cannot send a " + std::string(pointer) + " that points to a " + os::demangled(object.name()) +
      ": only the base would arrive; use a std::variant, or a type of its own with mp_pickle and mp_unpickle");
}

}  // namespace detail
}  // namespace mp::pickle
