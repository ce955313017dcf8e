#include "mp/pickle/value.hpp"

#include <doctest/doctest.h>

#include <bitset>
#include <complex>
#include <deque>
#include <filesystem>
#include <forward_list>
#include <limits>
#include <list>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "mp/errors.hpp"
#include "mp/memory/ref.hpp"

using namespace mp::pickle;
using namespace std::string_literals;

namespace {

enum class Colour : std::uint16_t { red, green = 500 };
enum Plain { one = 1, two };
enum class Yes : bool { no, yes };

struct Point {
  double x, y;
  bool operator==(const Point&) const = default;
};
struct Padded {
  char c;
  std::int64_t n;
  bool operator==(const Padded&) const = default;
};
struct Empty {
  bool operator==(const Empty&) const = default;
};
struct Scene {
  std::string name;
  std::vector<Point> points;
  int counts[3];
  char label[2][4];
  std::array<std::string, 2> pair;
  std::optional<Colour> colour = Colour::green;
  Empty nothing;
  bool operator==(const Scene&) const = default;
};
struct Tree {
  int value;
  std::vector<Tree> children;
  bool operator==(const Tree&) const = default;
};
struct Chain {
  int value;
  std::unique_ptr<Chain> next;
};
struct NotDefault {
  explicit NotDefault(int n) : n_(n) {}
  bool operator==(const NotDefault&) const = default;
  void mp_pickle(Writer& w) const { w.put(n_); }
  static NotDefault mp_unpickle(Reader& r) { return NotDefault(r.get<int>("NotDefault")); }

 private:
  int n_;
};
struct Fixed {
  const int id;
  NotDefault held;
  bool operator==(const Fixed&) const = default;
};
class Free {
 public:
  explicit Free(std::string s) : text(std::move(s)) {}
  bool operator==(const Free&) const = default;
  std::string text;
};
void mp_pickle(Writer& w, const Free& f) { w.put_text(f.text); }
Free mp_unpickle(Reader& r, std::type_identity<Free>) { return Free(std::string(r.get_text("Free"))); }

struct Base {
  virtual ~Base() = default;
  int b = 1;
  void mp_pickle(Writer& w) const { w.put(b); }
  static Base mp_unpickle(Reader& r) {
    Base base;
    base.b = r.get<int>("Base");
    return base;
  }
};
struct Derived : Base {};

// Has the shape of a standard container, no more.
struct Stack {
  using value_type = int;
  std::vector<int> held;
  auto begin() const { return held.begin(); }
  auto end() const { return held.end(); }
  std::size_t size() const { return held.size(); }
  void push_back(int v) { held.push_back(v); }
  void pop_back() { held.pop_back(); }
  bool operator==(const Stack&) const = default;
};

template <class T>
T there_and_back(const T& value) {
  return loads<T>(dumps(value));
}
template <class T>
void check_same(const T& value) {
  CHECK(there_and_back(value) == value);
}

}  // namespace

TEST_CASE("numbers, enums and characters arrive as they were") {
  check_same(true);
  check_same('x');
  check_same(std::int8_t{-5});
  check_same(std::numeric_limits<std::uint64_t>::max());
  check_same(-0.1f);
  check_same(std::numeric_limits<double>::denorm_min());
  check_same(3.14159265358979323846L);
  check_same(u'\u20ac');
  check_same(Colour::green);
  check_same(two);
  check_same(Yes::yes);
  check_same(std::byte{200});
  check_same(mp::pickle::detail::Int128{-7});
  CHECK(std::isnan(there_and_back(std::numeric_limits<double>::quiet_NaN())));
}

TEST_CASE("strings of every character type arrive, also with zeros in them") {
  check_same(""s);
  check_same("a\0b"s);
  check_same(std::string(100'000, 'x'));
  check_same(L"wide"s);
  check_same(u8"\u00e9"s);
  check_same(u"16"s);
  check_same(U"32"s);
}

TEST_CASE("the standard containers arrive") {
  check_same(std::vector<int>{});
  check_same(std::vector<double>(1000, 0.5));
  check_same(std::vector<std::string>{"a", "", "ccc"});
  for (std::size_t n : {0, 1, 7, 8, 9, 1000}) {
    std::vector<bool> bits(n);
    for (std::size_t i = 0; i < n; i += 3) bits[i] = true;
    check_same(bits);
  }
  check_same(std::deque<int>{1, 2, 3});
  check_same(std::list<Colour>{Colour::red, Colour::green});
  check_same(std::forward_list<std::string>{"x", "y"});
  check_same(std::set<std::string>{"b", "a"});
  check_same(std::multiset<int>{1, 1, 2});
  check_same(std::map<int, std::vector<std::string>>{{1, {"a"}}, {2, {}}});
  check_same(std::multimap<int, int>{{1, 1}, {1, 2}});
  check_same(std::unordered_set<int>{4, 5});
  check_same(std::unordered_multiset<int>{4, 4});
  check_same(std::unordered_map<std::string, bool>{{"t", true}});
  check_same(std::unordered_multimap<int, int>{{1, 2}, {1, 2}});
  check_same(std::array<int, 4>{1, 2, 3, 4});
  check_same(std::array<std::string, 2>{"a", "b"});
  check_same(std::array<NotDefault, 2>{NotDefault(1), NotDefault(2)});
  check_same(std::array<int, 0>{});
  check_same(std::vector<Empty>(5));
  check_same(std::vector<std::monostate>(5));
  check_same(std::vector<std::array<int, 0>>(3));
  check_same(std::map<std::string, int, std::greater<>>{{"a", 1}, {"b", 2}});
}

TEST_CASE("the standard vocabulary arrives") {
  check_same(std::pair("a"s, 1));
  check_same(std::tuple(1, "b"s, std::vector{2.5}, Colour::red));
  check_same(std::tuple<>());
  check_same(std::optional<std::string>());
  check_same(std::optional("x"s));
  using Either = std::variant<std::monostate, int, std::string>;
  check_same(Either());
  check_same(Either(5));
  check_same(Either("s"s));
  check_same(std::chrono::milliseconds(-3));
  check_same(std::chrono::duration<double>(0.25));
  check_same(std::chrono::system_clock::now());
  check_same(std::chrono::steady_clock::now());
  check_same(std::complex(1.5, -2.5));
  check_same(std::complex<long double>(1, 2));
  check_same(std::bitset<70>("1010101"));
  check_same(std::bitset<0>());
  check_same(std::filesystem::path("/a/b c"));
  check_same(std::make_error_code(std::errc::no_space_on_device));
  check_same(std::error_code(5, std::system_category()));
  check_same(std::make_error_condition(std::errc::timed_out));
  check_same(std::monostate());
}

TEST_CASE("aggregates arrive member by member, without a macro") {
  check_same(Point{1, 2});
  check_same(Padded{'a', 5});
  check_same(std::vector<Padded>{{'a', 5}, {'b', 6}});
  check_same(Empty{});
  check_same(Scene{"s", {{1, 2}, {3, 4}}, {7, 8, 9}, {"abc", "de"}, {"p", "q"}, std::nullopt, {}});
  check_same(Tree{1, {{2, {}}, {3, {{4, {}}}}}});
  check_same(Fixed{3, NotDefault(4)});
  check_same(std::map<std::string, Tree>{{"t", {1, {}}}});
}

TEST_CASE("a type's own functions come before every other rule") {
  check_same(NotDefault(9));
  check_same(std::vector{NotDefault(1), NotDefault(2)});
  check_same(Free("adl"));
  check_same(std::optional(Free("x")));
}

TEST_CASE("pointers that own arrive with what they own, and sharing is kept within a message") {
  CHECK(*there_and_back(std::make_unique<std::string>("u")) == "u");
  CHECK(there_and_back(std::unique_ptr<int>()) == nullptr);
  const auto shared = std::make_shared<int>(5);
  const auto back = there_and_back(std::vector{shared, std::make_shared<int>(5), shared, std::shared_ptr<int>()});
  CHECK(*back[0] == 5);
  CHECK(back[0] == back[2]);
  CHECK(back[0] != back[1]);
  CHECK(back[3] == nullptr);
  const auto [strong, weak] = there_and_back(std::pair(shared, std::weak_ptr(shared)));
  CHECK(weak.lock() == strong);
  CHECK(there_and_back(std::weak_ptr(shared)).expired());
  CHECK(*there_and_back(std::shared_ptr<const int>(shared)) == 5);
}

TEST_CASE("an object and its first member that share an address are not taken for each other") {
  struct Outer {
    int first;
    int second;
  };
  const auto outer = std::make_shared<Outer>(Outer{1, 2});
  const std::shared_ptr<int> first(outer, &outer->first);
  const auto [o, f] = there_and_back(std::pair(outer, first));
  CHECK(o->second == 2);
  CHECK(*f == 1);
}

TEST_CASE("a cycle of shared_ptr is refused, not followed") {
  struct Knot {
    std::shared_ptr<Knot> next;
  };
  const auto knot = std::make_shared<Knot>();
  knot->next = knot;
  CHECK_THROWS_AS(dumps(knot), mp::PicklingError);
  knot->next.reset();
}

TEST_CASE("an object that would be sliced is refused, and both types are named") {
  const std::unique_ptr<Base> derived = std::make_unique<Derived>();
  CHECK_THROWS_WITH_AS(dumps(derived), doctest::Contains("Derived"), mp::PicklingError);
  CHECK(there_and_back(std::make_unique<Base>())->b == 1);
}

TEST_CASE("an error category of the program's own is refused by name") {
  struct Own : std::error_category {
    const char* name() const noexcept override { return "own"; }
    std::string message(int) const override { return "m"; }
  };
  const Own own;
  CHECK_THROWS_WITH_AS(dumps(std::error_code(1, own)), doctest::Contains("\"own\""), mp::PicklingError);
}

TEST_CASE("a value nested too deep is refused on either side, without a stack overflow") {
  std::unique_ptr<Chain> chain;
  for (int i = 0; i < 900; ++i) chain = std::make_unique<Chain>(Chain{i, std::move(chain)});
  CHECK(there_and_back(chain)->value == 899);
  for (int i = 0; i < 200; ++i) chain = std::make_unique<Chain>(Chain{i, std::move(chain)});
  CHECK_THROWS_WITH_AS(dumps(chain), doctest::Contains("nested"), mp::PicklingError);

  Writer w;
  w.put(fingerprint<std::unique_ptr<Chain>>());
  for (int i = 0; i < 100'000; ++i) {
    w.put(std::uint8_t{1});
    w.put(i);
  }
  Reader r(w.bytes());
  CHECK_THROWS_WITH_AS(load_message<std::unique_ptr<Chain>>(r), doctest::Contains("nested"), mp::UnpicklingError);
}

TEST_CASE("padding never crosses") {
  alignas(Padded) unsigned char dirty[sizeof(Padded)];
  std::memset(dirty, 0xaa, sizeof dirty);
  auto* padded = new (dirty) Padded;
  padded->c = 1;
  padded->n = 2;
  Writer w;
  dump(w, std::vector<Padded>{*padded});
  for (std::byte b : w.bytes()) CHECK(b != std::byte{0xaa});
  CHECK(w.size() == 1 + sizeof(char) + sizeof(std::int64_t));
}

TEST_CASE("plain data is one copy: a vector of points takes its bytes and a length") {
  Writer w;
  dump(w, std::vector<Point>(100));
  CHECK(w.size() == 1 + 100 * sizeof(Point));
}

TEST_CASE("reading a message as another type is an error that names both") {
  CHECK_THROWS_WITH_AS(loads<std::string>(dumps(std::vector<float>{1})), doctest::Contains("std::vector<float"),
                       mp::UnpicklingError);
  CHECK_THROWS_WITH_AS(loads<int>("12345678abcd"), doctest::Contains("does not know"), mp::UnpicklingError);
  CHECK_THROWS_AS(loads<int>(dumps(1) + "x"), mp::UnpicklingError);
}

TEST_CASE("fingerprints tell types apart by name and structure, and spell equal ones equal") {
  struct Other {
    double x, y;
  };
  CHECK(fingerprint<int>() != fingerprint<unsigned>());
  CHECK(fingerprint<long>() == fingerprint<std::int64_t>());
  CHECK(fingerprint<Point>() != fingerprint<Other>());
  CHECK(fingerprint<std::vector<int>>() != fingerprint<std::list<int>>());
  CHECK(fingerprint<std::array<int, 3>>() != fingerprint<std::array<int, 4>>());
  CHECK(fingerprint<std::pair<int, long>>() != fingerprint<std::pair<long, int>>());
  CHECK(fingerprint<const int>() == fingerprint<int>());
  // The same under GCC and Clang, in every build: they are written down here.
  CHECK(fingerprint<int>() == 18180640888838550678u);
  CHECK(fingerprint<std::map<std::string, std::vector<unsigned long>>>() == 18072871456983879276u);
  CHECK(fingerprint<std::optional<std::array<std::tuple<bool, double>, 3>>>() == 14430658573926442060u);
}

TEST_CASE("a writer begins in the buffer it was given and spills out of it whole") {
  std::byte slot[16];
  Writer w{std::span(slot)};
  w.write("0123456789abcdef", 16);
  CHECK(w.in_place());
  CHECK(static_cast<const void*>(w.bytes().data()) == slot);
  w.put('g');
  CHECK_FALSE(w.in_place());
  CHECK(std::memcmp(w.bytes().data(), "0123456789abcdefg", 17) == 0);
  w.clear();
  CHECK(w.size() == 0);
  for (int i = 0; i < 10'000; ++i) w.put(i);
  Reader r(w.bytes());
  for (int i = 0; i < 10'000; ++i) CHECK(r.get<int>("int") == i);
}

TEST_CASE("a writer that began in the arena puts a large piece into a block, with what came before and after it") {
  const mp::memory::Offset slot = mp::memory::allocate(16);
  { mp::memory::NewBlock first(16); }  // this process's bag is there before anything is counted
  const std::size_t before = mp::memory::bytes_in_use();
  for (const bool given : {true, false}) {
    mp::memory::Offset block = 0;
    {
      Writer w{std::span(mp::memory::at<std::byte>(slot), 16)};
      w.put(7);
      const std::string large(1'000'000, 'x');
      w.put_text(large);
      CHECK(w.in_block());
      for (int i = 0; i < 100'000; ++i) w.put(i);
      CHECK(w.in_block());
      Reader r(w.bytes());
      CHECK(r.get<int>("int") == 7);
      CHECK(r.get_text("text") == large);
      int wrong = 0;
      for (int i = 0; i < 100'000; ++i) wrong += r.get<int>("int") != i;
      CHECK(wrong == 0);
      if (given) w.give_block(block);
    }
    CHECK((mp::memory::bytes_in_use() > before) == given);
    if (given) mp::memory::deallocate(block);
    CHECK(mp::memory::bytes_in_use() == before);
  }
  mp::memory::deallocate(slot);
}

TEST_CASE("containers built like the standard's are sent as well") { check_same(Stack{{1, 2, 3}}); }
