#include "mp/pickle/callable.hpp"

#include <doctest/doctest.h>

#include <map>
#include <numeric>
#include <set>

#include "mp/errors.hpp"
#include "mp/pickle/handle.hpp"

using namespace mp::pickle;
using namespace std::string_literals;

namespace {

int twice(int n) { return 2 * n; }
int global_counter = 0;

struct Shape {
  virtual ~Shape() = default;
  virtual int sides() const { return 0; }
  int scaled(int by) const { return by * factor; }
  int factor = 3;
};
struct Square : Shape {
  int sides() const override { return 4; }
};

struct Ruler {
  int factor;
  int scaled(int by) const { return by * factor; }
};

// A handle as the rooms above have them.
class Handle {
 public:
  explicit Handle(int value) : ref_(mp::memory::create<int>(mp::memory::Kind::value, 1, 0, value)) {}
  explicit Handle(mp::memory::Ref ref) : ref_(std::move(ref)) {}
  int& operator*() const { return ref_.as<int>(); }
  mp::memory::Offset offset() const { return ref_.offset(); }
  void mp_pickle(Writer& w) const { dump_ref(w, ref_); }
  static Handle mp_unpickle(Reader& r) { return Handle(load_ref<int>(r, mp::memory::Kind::value, 1)); }

 private:
  mp::memory::Ref ref_;
};

template <class F>
F there_and_back(const F& f) {
  Writer w;
  dump_callable(w, f);
  Reader r(w.bytes());
  F back = load_callable<F>(r);
  CHECK(r.remaining() == 0);
  return back;
}

template <class F>
std::string refusal(const F& f) {
  Writer w;
  try {
    dump_callable(w, f);
  } catch (const mp::PicklingError& e) {
    return e.what();
  }
  return "sent";
}

}  // namespace

TEST_CASE("functions, captureless lambdas and empty function objects arrive and need no constructor") {
  CHECK(there_and_back(&twice)(4) == 8);
  CHECK(there_and_back([](int n) { return n + 1; })(4) == 5);
  CHECK(there_and_back(std::plus<>())(2, 3) == 5);
  CHECK((there_and_back(static_cast<int (*)(int)>(nullptr)) == nullptr));
  Writer w;
  dump_callable(w, [] {});
  CHECK(w.size() == 0);
}

TEST_CASE("pointers to members arrive, virtual ones too") {
  Square square;
  CHECK(std::invoke(there_and_back(&Shape::sides), square) == 4);
  CHECK(std::invoke(there_and_back(&Shape::scaled), square, 2) == 6);
  CHECK(std::invoke(there_and_back(&Shape::factor), square) == 3);
  CHECK(there_and_back(static_cast<int (Shape::*)() const>(nullptr)) == nullptr);
}

TEST_CASE("a lambda that captured values arrives with them") {
  int k = 7;
  double d = 0.5;
  CHECK(there_and_back([k, d](int x) { return x * k + d + 1; })(2) == 15.5);
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
  // Without that builtin (Clang before 20) what happens to lie in the padding behind `c` may pass for a pointer.
  char c = 'x';
  CHECK(there_and_back([k, d, c](int x) { return x * k + d + (c == 'x'); })(2) == 15.5);
#endif
#endif
  std::array<long, 100> many{};
  std::iota(many.begin(), many.end(), 0);
  CHECK(there_and_back([many] { return many[99]; })() == 99);
  std::optional<int> maybe = 4;
  CHECK(there_and_back([maybe, p = std::pair(1, 2)] { return *maybe + p.second; })() == 6);
}

TEST_CASE("a captured short string points into itself on the other side") {
  const std::string text = "short";
  const auto f = [text, k = 1] { return text + std::to_string(k); };
  Writer w;
  dump_callable(w, f);
  Reader r(w.bytes());
  auto first = load_callable<std::remove_const_t<decltype(f)>>(r);
  auto moved = std::move(first);
  CHECK(moved() == "short1");
  CHECK(there_and_back([m = std::map<int, int>(), v = std::vector<int>()] { return m.size() + v.size(); })() == 0);
}

TEST_CASE("captured functions, literals and std::function arrive as addresses of the same module") {
  int (*f)(int) = twice;
  const char* literal = "literal";
  CHECK(there_and_back([f, literal](int n) { return f(n) + static_cast<int>(literal[0]); })(1) == 2 + 'l');
  std::function<int(int)> function = twice;
  CHECK(there_and_back(function)(3) == 6);
  CHECK(there_and_back([function](int n) { return function(n); })(4) == 8);
}

TEST_CASE("a captured reference or pointer is refused, and what it points to is named") {
  int local = 1;
  auto on_heap = std::make_unique<int>(2);
  int* heap = on_heap.get();
  CHECK(refusal([&local] { return local; }) ==
        "cannot send this callable: capture at byte 0 points to the stack of main, which only this process has; "
        "capture by value, or pass it as "
        "an argument or with mp::partial");
  CHECK(refusal([k = 1L, heap] { return k + *heap; }).find("byte 8 points to the heap") != std::string::npos);
  int* global = &global_counter;
  CHECK(refusal([global] { return *global; }).find("global_counter`") != std::string::npos);
  const std::string text(1000, 'x');
  CHECK(refusal([text] { return text; }).find("the heap (a pointer, or a container") != std::string::npos);
  CHECK(refusal([v = std::vector{1}] { return v; }).find("byte 0 points to the heap") != std::string::npos);
}

TEST_CASE("plain numbers that are no addresses pass") {
  for (std::uint64_t n :
       {0ul, 1ul, 65535ul, ~0ul, 0x3ff0000000000000ul, 0x00000001'00000002ul, 0x00000010'fffffffful}) {
    CHECK(there_and_back([n] { return n; })() == n);
  }
}

TEST_CASE("mp::partial sends what a capture cannot hold") {
  const std::string text(1000, 'x');
  auto f = mp::partial([](const std::string& a, const std::vector<int>& v,
                          int rest) { return a.size() + v.size() + static_cast<std::size_t>(rest); },
                       text, std::vector{1, 2});
  CHECK(there_and_back(f)(3) == 1005);
  CHECK(there_and_back(mp::partial(&twice))(2) == 4);
  CHECK(there_and_back(mp::partial(std::minus<>(), 10))(3) == 7);
  CHECK(there_and_back(mp::partial([](const std::string& s) { return s; }, "literal"))() == "literal");
  CHECK(there_and_back(mp::partial(&Ruler::scaled, Ruler{3}))(2) == 6);
}

TEST_CASE("function objects that are aggregates are sent member by member") {
  struct Scale {
    std::vector<int> by;
    int operator()(int n) const { return n * by.at(0); }
  };
  CHECK(there_and_back(Scale{{5}})(2) == 10);
}

TEST_CASE("captured handles are carried by the message and counted by the copy") {
  const Handle first(0);  // the process's bag of references comes with the first
  const std::size_t before = mp::memory::bytes_in_use();
  {
    Writer w;
    mp::memory::Offset offset;
    const auto make = [](const Handle& h) { return [h, k = 2] { return *h * k; }; };
    using F = decltype(make(std::declval<Handle>()));
    {
      Handle handle(21);
      offset = handle.offset();
      dump_callable(w, make(handle));
    }
    CHECK(w.carried().size() == 1);
    CHECK(mp::memory::is_object(offset, mp::memory::Kind::value, 1));
    Reader r(w.bytes());
    F back = load_callable<F>(r);
    w.clear();
    CHECK(back() == 42);
  }
  CHECK(mp::memory::bytes_in_use() == before);
}

TEST_CASE("a closure of another size, or with words that point elsewhere, is refused") {
  const auto f = [a = 1L, text = "s"s, t = &twice] { return a + t(1) + static_cast<int>(text.size()); };
  using F = std::remove_const_t<decltype(f)>;
  Writer w;
  dump_callable(w, f);
  for (std::size_t n = 0; n < w.size(); ++n) {
    Reader r(w.bytes().first(n));
    CHECK_THROWS_AS(load_callable<F>(r), mp::UnpicklingError);
  }
  const auto g = [k = 1] { return k; };
  Reader other(w.bytes());
  CHECK_THROWS_AS(load_callable<std::remove_const_t<decltype(g)>>(other), mp::UnpicklingError);
}

TEST_CASE("a function pointer from nowhere, or of another program, is refused") {
  std::byte page[64];
  CHECK_THROWS_AS(code_ref(static_cast<const void*>(page)), mp::PicklingError);
  CHECK_THROWS_AS(code_ref(static_cast<const void*>(&global_counter)), mp::PicklingError);
  CodeRef ref = code_ref(&twice);
  CHECK(code_as<int (*)(int)>(ref)(4) == 8);
  CHECK_THROWS_WITH_AS(code_address({ref.module + 1, ref.offset}), doctest::Contains("another build"),
                       mp::UnpicklingError);
  CHECK_THROWS_AS(code_address({ref.module, ~std::uint64_t{0}}), mp::UnpicklingError);
  CHECK_THROWS_AS(code_address({ref.module, 0}), mp::UnpicklingError);
}

TEST_CASE("concepts say beforehand what can be sent and called") {
  static_assert(SendableCallable<int (*)(int)>);
  static_assert(!SendableCallable<decltype([p = std::unique_ptr<std::set<int>>()] {})>);
  static_assert(SendableCall<int (*)(int), int>);
  static_assert(!SendableCall<void (*)(int&), int>);
  static_assert(SendableCall<void (*)(const int&), int>);
  static_assert(SendableCall<void (*)(std::string_view), Sent<const char(&)[4]>>);
  static_assert(!SendableCall<void (*)(int*), int*>);
  static_assert(Picklable<decltype(mp::partial(&twice, 1))>);
  CHECK(true);
}
