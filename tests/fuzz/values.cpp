// Values of every family: what is read is written and read again, and that must work.
#include <bitset>
#include <complex>
#include <filesystem>
#include <forward_list>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <variant>

#include "fuzz.hpp"
#include "mp/pickle/exception.hpp"
#include "mp/pickle/json.hpp"
#include "mp/pickle/pickle.hpp"

namespace {

using namespace mp::pickle;
using namespace std::string_literals;

enum class Yes : bool { no, yes };
enum class Colour : std::uint16_t { red, green };
struct Empty {};
struct Numbers {
  bool flag;
  std::int8_t small;
  double real;
  long double wide;
  Yes yes;
  Colour colour;
  char text[5];
};
struct Node {
  int value;
  std::vector<Node> children;
  std::unique_ptr<Node> next;
};
struct Large {
  std::optional<std::array<int, 1000>> numbers;
};
using Shared = std::vector<std::shared_ptr<Node>>;
using Weak = std::vector<std::weak_ptr<std::shared_ptr<int>>>;
using Deep = std::vector<std::vector<std::vector<std::string>>>;

// The fingerprint in front, as queues and pipes send it.
struct Message {
  std::vector<int> ints;
};

template <class T>
void try_one(fuzz::Bytes bytes) {
  fuzz::refused([&] {
    Reader in(bytes);
    const T value = load<T>(in);
    Writer out;
    try {
      dump(out, value);
    } catch (const mp::PicklingError&) {
      return;  // text that is no UTF-8 can be read as JSON and not be written
    }
    Reader again(out.bytes());
    if (fuzz::refused([&] {
          static_cast<void>(load<T>(again));
          detail::expect_end(again, "value that was read before");
        }))
      std::abort();
  });
}
template <>
void try_one<Message>(fuzz::Bytes bytes) {
  fuzz::refused([&] {
    Reader in(bytes);
    static_cast<void>(load_message<std::vector<int>>(in));
  });
}

template <class... T>
struct Families {
  static constexpr unsigned count = sizeof...(T);
  static void run(unsigned which, fuzz::Bytes bytes) {
    unsigned i = 0;
    static_cast<void>(((i++ == which ? (try_one<T>(bytes), true) : false) || ...));
  }
};
using All =
    Families<Numbers, std::vector<std::string>, std::map<std::string, std::vector<int>>,
             std::unordered_multimap<int, std::optional<double>>, std::set<std::u16string>,
             std::list<std::variant<std::monostate, bool, std::string>>, std::forward_list<std::array<Empty, 2>>,
             std::vector<bool>, std::bitset<13>, Shared, Weak, std::pair<std::filesystem::path, std::error_code>,
             std::tuple<std::chrono::nanoseconds, std::complex<float>, std::error_condition>, std::exception_ptr,
             nlohmann::json, Node, Message, std::vector<Large>, Deep, std::vector<Empty>>;

template <class T>
std::string seed(unsigned family, const T& value) {
  Writer w;
  dump(w, value);
  return static_cast<char>(family) + fuzz::portable(w.bytes());
}

}  // namespace

std::vector<fuzz::Seed> fuzz::seeds() {
  auto shared = std::make_shared<Node>();
  Node node{1, {}, std::make_unique<Node>()};
  node.children.push_back({2, {}, nullptr});
  Writer message;
  dump_message(message, std::vector<int>{1, 2, 3});
  return {
      {"numbers", seed(0, Numbers{true, -1, 2.5, 1.25L, Yes::yes, Colour::green, "text"})},
      {"strings", seed(1, std::vector<std::string>{"a", "bc", ""})},
      {"map", seed(2, std::map<std::string, std::vector<int>>{{"k", {1, 2}}})},
      {"hashed", seed(3, std::unordered_multimap<int, std::optional<double>>{{1, 2.5}, {1, std::nullopt}})},
      {"set-of-u16string", seed(4, std::set<std::u16string>{u"x", u"yz"})},
      {"variants", seed(5, std::list<std::variant<std::monostate, bool, std::string>>{true, "s"s})},
      {"nothings", seed(6, std::forward_list<std::array<Empty, 2>>(3))},
      {"bits", seed(7, std::vector<bool>{true, false, true})},
      {"shared-pointers", seed(9, Shared{shared, shared, nullptr})},
      {"path-and-error", seed(11, std::pair<std::filesystem::path, std::error_code>(
                                      "/p", std::error_code(EINTR, std::system_category())))},
      {"exception", seed(13, std::make_exception_ptr(std::out_of_range("oops")))},
      {"json", seed(14, nlohmann::json{{"j", {1, "two", nullptr, 2.5}}})},
      {"node", seed(15, node)},
      {"message", static_cast<char>(16) + portable(message.bytes())},
      {"large-elements", seed(17, std::vector<Large>(2))},
      {"nested-vectors", seed(18, Deep{{{"a"}, {}}, {}})},
  };
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input in(data, size);
  const unsigned family = in.below(All::count);
  All::run(family, in.rest());
  return 0;
}
