#include "mp/pickle/value.hpp"

#include <doctest/doctest.h>

#include <bitset>
#include <filesystem>
#include <forward_list>
#include <list>
#include <map>
#include <random>
#include <set>
#include <unordered_map>

#include "mp/errors.hpp"
#include "mp/pickle/exception.hpp"
#include "mp/pickle/handle.hpp"
#include "mp/pickle/json.hpp"

using namespace mp::pickle;
using namespace std::string_literals;

namespace {

enum class Yes : bool { no, yes };
struct Empty {};
struct Node {
  int value;
  char text[5];
  Yes yes;
  std::vector<Node> children;
  std::unique_ptr<Node> next;
};
// Something of every rule.
struct Everything {
  std::vector<std::string> strings;
  std::map<std::string, std::vector<int>> map;
  std::unordered_multimap<int, std::optional<double>> hashed;
  std::set<std::u16string> set;
  std::list<std::variant<std::monostate, bool, std::string>> variants;
  std::forward_list<std::array<Empty, 2>> nothings;
  std::vector<bool> bits;
  std::bitset<13> fixed;
  std::vector<std::shared_ptr<std::string>> shared;
  std::weak_ptr<std::string> weak;
  std::pair<std::filesystem::path, std::error_code> pair;
  std::tuple<long double, std::chrono::nanoseconds> tuple;
  std::exception_ptr exception;
  nlohmann::json json;
  Node node;
};

Everything everything() {
  auto s = std::make_shared<std::string>("shared");
  Everything e{{"a", "bc"},
               {{"k", {1, 2}}},
               {{1, 2.5}, {1, std::nullopt}},
               {u"x"},
               {true, "s"s},
               {},
               {true, false, true},
               {5},
               {s, s, nullptr},
               s,
               {"/p", {}},
               {1.5L, std::chrono::nanoseconds(4)},
               std::make_exception_ptr(std::out_of_range("oops")),
               {{"j", {1, "two", nullptr}}},
               {1, "text", Yes::yes, {}, nullptr}};
  e.nothings.push_front({});
  e.node.children.push_back({2, "x", Yes::no, {}, std::make_unique<Node>()});
  return e;
}

// True if it was read, false if it was refused; any other exception, and whatever the sanitizers find, fails the test.
template <class T>
bool reads(std::span<const std::byte> bytes) {
  // At the end of a block of exactly that size, so that a byte too far is found.
  const auto copy = std::make_unique<std::byte[]>(bytes.size());
  std::copy(bytes.begin(), bytes.end(), copy.get());
  try {
    Reader r({copy.get(), bytes.size()});
    static_cast<void>(load<T>(r));
    return true;
  } catch (const mp::UnpicklingError&) {
    return false;
  }
}

std::vector<std::byte> random_bytes(std::mt19937& random, std::size_t size) {
  std::vector<std::byte> bytes(size);
  // Small numbers often: they look like lengths and marks.
  for (auto& b : bytes) b = static_cast<std::byte>(random() % 3 == 0 ? random() : random() % 4);
  return bytes;
}

}  // namespace

TEST_CASE("a message cut short at any byte is refused") {
  Writer w;
  dump(w, everything());
  CHECK(reads<Everything>(w.bytes()));
  for (std::size_t n = 0; n < w.size(); ++n) CHECK_FALSE(reads<Everything>(w.bytes().first(n)));
}

TEST_CASE("a message with any one byte changed is read or refused, never more") {
  Writer w;
  dump(w, everything());
  std::vector<std::byte> bytes(w.bytes().begin(), w.bytes().end());
  for (std::byte& b : bytes) {
    const std::byte right = b;
    for (int wrong : {0, 1, 2, 127, 128, 255}) {
      b = static_cast<std::byte>(wrong);
      reads<Everything>(bytes);
    }
    b = right;
  }
}

TEST_CASE_TEMPLATE("random bytes are read or refused, never more", T, Everything, std::vector<std::vector<std::string>>,
                   std::vector<Empty>, std::shared_ptr<Node>, std::vector<std::weak_ptr<std::shared_ptr<int>>>,
                   std::exception_ptr, nlohmann::json, std::map<std::string, std::variant<bool, std::error_code>>) {
  std::mt19937 random(42);
  for (int i = 0; i < 2000; ++i) reads<T>(random_bytes(random, random() % 200));
}

TEST_CASE("a length that the message cannot hold is refused before anything is allocated") {
  for (std::uint64_t n :
       {std::uint64_t{1} << 20, std::uint64_t{1} << 40, ~std::uint64_t{0}, (~std::uint64_t{0} >> 3) + 1}) {
    Writer w;
    w.put_size(n);
    w.put(n);
    CHECK_FALSE(reads<std::vector<double>>(w.bytes()));
    CHECK_FALSE(reads<std::vector<Empty>>(w.bytes()));
    CHECK_FALSE(reads<std::vector<bool>>(w.bytes()));
    CHECK_FALSE(reads<std::u32string>(w.bytes()));
    CHECK_FALSE(reads<std::set<int>>(w.bytes()));
    CHECK_FALSE(reads<std::list<std::monostate>>(w.bytes()));
    CHECK_FALSE(reads<nlohmann::json>(w.bytes()));
  }
}

TEST_CASE("what was being read is named") {
  Reader r({});
  CHECK_THROWS_WITH_AS(load<std::vector<int>>(r), doctest::Contains("std::vector<int"), mp::UnpicklingError);
}

TEST_CASE("JSON nested without end is refused without recursion") {
  Writer w;
  w.put_size(1'000'000);
  for (int i = 0; i < 1'000'000; ++i) w.put(std::uint8_t{0x81});
  CHECK_FALSE(reads<nlohmann::json>(w.bytes()));
  Writer chunks;  // strings of strings
  chunks.put_size(1'000'000);
  for (int i = 0; i < 1'000'000; ++i) chunks.put(std::uint8_t{0x7f});
  CHECK_FALSE(reads<nlohmann::json>(chunks.bytes()));
}

TEST_CASE("an offset that names no object, or one of another kind, is refused") {
  mp::memory::Ref value = mp::memory::create<int>(mp::memory::Kind::value, 7, 0, 5);
  Writer w;
  dump_ref(w, value);
  CHECK(w.carried().size() == 1);
  const auto refused = [](std::uint64_t offset, mp::memory::Kind kind, std::uint64_t type) {
    Writer garbage;
    garbage.put(offset);
    Reader r(garbage.bytes());
    CHECK_THROWS_AS(load_ref<int>(r, kind, type), mp::UnpicklingError);
  };
  refused(value.offset(), mp::memory::Kind::lock, 0);
  refused(value.offset(), mp::memory::Kind::value, 8);
  std::mt19937_64 random(1);
  for (int i = 0; i < 1000; ++i) refused(random() >> (random() % 64) | 1, mp::memory::Kind::value, 7);
  Reader r(w.bytes());
  CHECK(load_ref<int>(r, mp::memory::Kind::value, 7) == value);
}

TEST_CASE("an object stays while a message that names it is under way, and no longer") {
  const std::size_t before = mp::memory::bytes_in_use();
  {
    Writer w;
    mp::memory::Offset offset;
    {
      mp::memory::Ref value = mp::memory::create<int>(mp::memory::Kind::value, 7, 0, 5);
      offset = value.offset();
      dump_ref(w, value);
    }
    CHECK(mp::memory::is_object(offset, mp::memory::Kind::value, 7));
    Reader r(w.bytes());
    mp::memory::Ref again = load_ref<int>(r, mp::memory::Kind::value, 7);
    w.clear();
    CHECK(again.as<int>() == 5);
    again = {};
    CHECK_FALSE(mp::memory::is_object(offset, mp::memory::Kind::value, 7));
  }
  CHECK(mp::memory::bytes_in_use() == before);
}
