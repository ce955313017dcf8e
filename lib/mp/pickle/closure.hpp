// Closures: an object with state but no member-by-member description (a lambda with captures) travels as its bytes. It is first
// copied into a scratch buffer, so that captured handles report which shared objects they hold; then each word is looked at:
// a word that points into the buffer itself (a short std::string) or into read-only parts of a module (a function, a literal, a vtable) is noted
// and adjusted in the receiver; one that points into memory that only this process has is refused by name.
//
// What the check cannot know: an integer whose value happens to be a mapped address is taken for a pointer (refused without need; send it with
// mp::partial), and a pointer hidden by packing or tagging is not seen. Words below 64 KiB or above the
// user's address space, that is small integers, negative ones and doubles, are passed after two comparisons; others cost a mincore(2).
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>

#include "mp/pickle/bytes.hpp"
#include "mp/pickle/code.hpp"

namespace mp::pickle::detail {

struct ClosureType {
  std::size_t size;
  std::size_t align;
  void (*copy)(const void* from, void* to);  // copy-constructs at `to`, padding cleared as far as the compiler can
  void (*destroy)(void* at) noexcept;
};

template <class F>
void copy_closure(const void* from, void* to) {
  F* copy = ::new (to) F(*static_cast<const F*>(from));
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
  if constexpr (std::is_trivially_copyable_v<F>) __builtin_clear_padding(copy);
#endif
#endif
  static_cast<void>(copy);
}

template <class F>
void destroy_closure(void* at) noexcept {
  std::destroy_at(std::launder(static_cast<F*>(at)));
}

template <class F>
inline constexpr ClosureType closure_type{sizeof(F), alignof(F), copy_closure<F>, destroy_closure<F>};

// Throws PicklingError naming the first byte that points to private memory, and whose it is.
void dump_closure(Writer& w, const void* f, const ClosureType& type);

// Fills `to` (type.size bytes, suitably aligned): the bits of an F that must be copied from and never destroyed.
void load_closure(Reader& r, void* to, std::size_t size);

template <class F>
class ClosureIn {
 public:
  explicit ClosureIn(Reader& r) { load_closure(r, bytes_, sizeof(F)); }
  F get() const { return *std::launder(reinterpret_cast<const F*>(bytes_)); }

 private:
  alignas(F) std::byte bytes_[sizeof(F)];
};

// A function's module and offset; of a null pointer, of no module.
inline void dump_code(Writer& w, const void* code) {
  const CodeRef ref = code != nullptr ? code_ref(code) : CodeRef();
  w.put(ref.module);
  w.put(ref.offset);
}
inline const void* load_code(Reader& r) {
  CodeRef ref;
  ref.module = r.get<std::uint64_t>("function");
  ref.offset = r.get<std::uint64_t>("function");
  return ref == CodeRef() ? nullptr : code_address(ref);
}

// Pointers to members: to data, an offset; to a function, its address or its place in the vtable (Itanium C++ ABI 2.3).
void dump_member(Writer& w, const void* pointer, std::size_t size, bool function);
void load_member(Reader& r, void* pointer, std::size_t size, bool function);

}  // namespace mp::pickle::detail
