#include "mp/pickle/code.hpp"

#include "mp/errors.hpp"
#include "mp/pickle/closure.hpp"

namespace mp::pickle {

namespace detail {

CodeRef library_code_ref(const void* function) {
  const auto found = os::locate(function);
  if (!found || found->segment != os::Segment::code)
    throw PicklingError("cannot send a function that is in no loaded program or library (code made at run time?)");
  return found->address;
}

const void* library_code_address(CodeRef ref) {
  os::Segment segment;
  const void* address = os::resolve(ref, segment);
  if (address == nullptr || segment != os::Segment::code)
    throw UnpicklingError(
        os::module_file(ref.module).empty()
            ? "cannot read a function: its program or library is not loaded here, or it is another build of it"
            : "cannot read a function: its offset is not in the code of " + os::module_file(ref.module));
  return address;
}

namespace {

struct MemberFunction {
  std::int64_t code;  // address, or place in the vtable
  std::int64_t adjustment;

  bool is_virtual() const noexcept {
#if defined(__aarch64__)
    return (adjustment & 1) != 0;
#else
    return (code & 1) != 0;
#endif
  }
};

enum class MemberForm : std::uint8_t { null, in_vtable, code };

}  // namespace

void dump_member(Writer& w, const void* pointer, std::size_t size, bool function) {
  if (!function) return w.write(pointer, size);
  MemberFunction f;
  std::memcpy(&f, pointer, sizeof f);
  const auto form = f.is_virtual() ? MemberForm::in_vtable : f.code == 0 ? MemberForm::null : MemberForm::code;
  w.put(static_cast<std::uint8_t>(form));
  w.put(f.adjustment);
  if (form == MemberForm::in_vtable) w.put(f.code);
  if (form == MemberForm::code) dump_code(w, reinterpret_cast<const void*>(f.code));
}

void load_member(Reader& r, void* pointer, std::size_t size, bool function) {
  if (!function) return r.read(pointer, size, "pointer to member");
  const auto form = static_cast<MemberForm>(r.get<std::uint8_t>("pointer to member"));
  MemberFunction f{0, r.get<std::int64_t>("pointer to member")};
  switch (form) {
    case MemberForm::null: break;
    case MemberForm::in_vtable: f.code = r.get<std::int64_t>("pointer to member"); break;
    case MemberForm::code: f.code = reinterpret_cast<std::int64_t>(load_code(r)); break;
    default: malformed("pointer to member", "it is of no known form");
  }
  if (f.is_virtual() != (form == MemberForm::in_vtable)) malformed("pointer to member", "it is of no known form");
  static_assert(sizeof f == sizeof(void(Writer::*)()));
  std::memcpy(pointer, &f, size);
}

}  // namespace detail
}  // namespace mp::pickle
