// Callables on their way to another process. What was read is copied and destroyed, not called: a wrong function in this program's code
// cannot be told from a right one (lib/SECURITY.md).
#include <functional>

#include "fuzz.hpp"
#include "mp/pickle/callable.hpp"
#include "mp/sync/value.hpp"

namespace {

using namespace mp::pickle;

int function(int x) { return x + 1; }
struct Ruler {
  virtual ~Ruler() = default;
  virtual int scaled(int by) const { return by * factor; }
  int plain(int by) { return by + factor; }
  int factor = 3;
};

const CodeRef& code() {
  static const CodeRef ref = code_ref(&function);
  return ref;
}

// A type of each form; closures only of plain data and of handles, since what a class does with its own wrong bytes is its own affair.
auto plain_closure() {
  return
      [a = 1, b = 2.5, text = "literal", self = static_cast<const int*>(nullptr)] { return a + b + text[0] + !self; };
}
auto handle_closure() {
  return [value = mp::RawValue<int>(5)] { return value.get(); };
}
auto bound() { return mp::partial(&function, 7); }

template <class F>
void try_one(fuzz::Bytes bytes) {
  fuzz::refused([&] {
    Reader in(bytes);
    const F f = load_callable<F>(in);
    const F copy = f;
    static_cast<void>(copy);
  });
}

template <class F>
std::string seed(unsigned form, const F& f) {
  Writer w;
  dump_callable(w, f);
  return static_cast<char>(form) + fuzz::portable(w.bytes(), code());
}

}  // namespace

std::vector<fuzz::Seed> fuzz::seeds() {
  return {
      {"function", seed(0, &function)},
      {"null-function", seed(0, static_cast<int (*)(int)>(nullptr))},
      {"member-function", seed(1, &Ruler::plain)},
      {"virtual-member-function", seed(1, static_cast<int (Ruler::*)(int)>(nullptr))},
      {"virtual-const-member-function", seed(2, &Ruler::scaled)},
      {"member", seed(3, &Ruler::factor)},
      {"stateless", seed(4, std::plus<>())},
      {"closure", seed(5, plain_closure())},
      {"closure-with-handle", seed(6, handle_closure())},
      {"partial", seed(7, bound())},
  };
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input in(data, size, code());
  const unsigned form = in.below(8);
  const fuzz::Bytes bytes = in.rest();
  switch (form) {
    case 0: try_one<int (*)(int)>(bytes); break;
    case 1: try_one<int (Ruler::*)(int)>(bytes); break;
    case 2: try_one<int (Ruler::*)(int) const>(bytes); break;
    case 3: try_one<int Ruler::*>(bytes); break;
    case 4: try_one<std::plus<>>(bytes); break;
    case 5: try_one<decltype(plain_closure())>(bytes); break;
    case 6: try_one<decltype(handle_closure())>(bytes); break;
    default: try_one<decltype(bound())>(bytes); break;
  }
  return 0;
}
