#include "mp/pool/describe.hpp"

#include <charconv>
#include <map>
#include <mutex>
#include <utility>

#include "mp/os/symbol.hpp"

namespace mp::pool {
namespace {

using Key = std::pair<std::uint64_t, std::uint64_t>;
Key key_of(pickle::CodeRef run) noexcept { return {run.module, run.offset}; }

// Written once for each type of call, read when one has crashed. Never destroyed: the supervisor of a static pool may come late.
struct Registry {
  std::mutex mutex;
  std::map<Key, Describe> describers;
  std::map<const void*, std::string> names;  // symbols that were looked up: milliseconds each
};
Registry& registry() {
  static auto& all = *new Registry;
  return all;
}

template <class T>
void append_number(std::string& out, T value) {
  char digits[40];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

void append_escaped(std::string& out, char c) {
  constexpr char hex[] = "0123456789abcdef";
  const auto byte = static_cast<unsigned char>(c);
  if (c == '\n') out += "\\n";
  else if (c == '\t') out += "\\t";
  else if (byte < 0x20 || byte == 0x7f) (out += "\\x").append({hex[byte >> 4], hex[byte & 15]});
  else out += c;
}

}  // namespace

pickle::CodeRef describable(pickle::CodeRef run, Describe describe) {
  Registry& all = registry();
  std::lock_guard guard(all.mutex);
  all.describers.emplace(key_of(run), describe);
  return run;
}

Description describe_call(pickle::CodeRef run, std::span<const std::byte> arguments, std::uint64_t item) noexcept {
  Description out;
  try {
    Describe describe = nullptr;
    {
      Registry& all = registry();
      std::lock_guard guard(all.mutex);
      if (auto found = all.describers.find(key_of(run)); found != all.describers.end()) describe = found->second;
    }
    if (describe == nullptr) return out;
    pickle::Reader in(arguments);
    describe(in, item, out);
    if (out.arguments.size() > text::kMost) out.arguments.replace(text::kMost, out.arguments.npos, "...)");
  } catch (...) {
    // The dead process has left something else there: nothing can be said of it.
    out.arguments.clear();
  }
  return out;
}

namespace text {

void append(std::string& out, std::int64_t value) { append_number(out, value); }
void append(std::string& out, std::uint64_t value) { append_number(out, value); }
void append(std::string& out, double value) { append_number(out, value); }

void append_quoted(std::string& out, std::string_view value) {
  out += '"';
  for (char c : value.substr(0, kMost)) {
    if (c == '"' || c == '\\') out += '\\';
    append_escaped(out, c);
  }
  if (value.size() > kMost) out += "...";
  out += '"';
}

void append_character(std::string& out, char value) {
  out += '\'';
  if (value == '\'' || value == '\\') out += '\\';
  append_escaped(out, value);
  out += '\'';
}

std::string function_name(const void* function, std::string_view type) {
  Registry& all = registry();
  {
    std::lock_guard guard(all.mutex);
    if (auto found = all.names.find(function); found != all.names.end()) return found->second;
  }
  std::string name = function == nullptr ? std::string() : os::symbol_at(function);
  if (name.empty()) name = type;
  std::lock_guard guard(all.mutex);
  return all.names.emplace(function, std::move(name)).first->second;
}

}  // namespace text
}  // namespace mp::pool
