#include "output.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

using nlohmann::ordered_json;

std::string figure(std::optional<double> value) {
  if (!value) return "-";
  double v = *value, size = std::abs(v);
  if (size >= 1e7) return fmt::format("{:.3g}", v);
  if (size > 0 && size < 5e-5) return fmt::format("{:.0e}", v);
  return fmt::format("{:.{}f}", v, size >= 100 || v == 0 ? 0 : size >= 10 ? 1 : size >= 0.01 ? 2 : 4);
}

void print_machine(const Machine& machine) {
  for (const auto& [key, value] : machine) fmt::print("{:<16} {}\n", key, value);
  fmt::print("\n");
}

namespace {

// fmt counts bytes where the terminal counts characters.
std::string padded(const std::string& text, std::size_t width) {
  std::size_t shown = 0;
  for (char c : text) shown += (c & 0xC0) != 0x80;
  return text + std::string(shown < width ? width - shown : 0, ' ');
}

std::string verdict(const Row& row) {
  if (row.of->target.empty() || row.quick) return "";
  auto met = row.met();
  return !met ? "unknown" : *met ? "met" : row.near_possible() ? "near" : "NOT MET";
}

// The keys of details in the order to read them in; others follow.
constexpr const char* kOrder[] = {"p50",      "p99",        "p99.9", "samples", "slept-percent", "two-cores-percent",
                                  "syscalls", "allocations"};

void print_contender(const char* kind, const Measurement& m, std::optional<double> ratio = {}) {
  if (!m.value) {
    fmt::print("  {:<6}{} {:>9}\n", kind, padded(m.name, 32), m.why_not);
    return;
  }
  std::string text = ratio ? "  ours / it " + figure(ratio) : "";
  for (const std::string& key : keys_of({&m})) text += fmt::format("  {} {}", title_of(key), detail_text(m, key));
  for (const auto& note : m.notes) text += "  " + note;
  fmt::print("  {:<6}{} {:>9} {:>17}{}\n", kind, padded(m.name, 32), figure(m.value), range(m), text);
}

ordered_json number(std::optional<double> value) { return value ? ordered_json(*value) : ordered_json(nullptr); }

ordered_json detail_json(const Measurement& m) {
  ordered_json json = {{"value", number(m.value)}};
  if (m.value) json["spread"] = {m.least, m.most};
  for (const auto& [key, spread] : m.detail) {
    json[key] = spread.median;
    if (key == "two-cores-percent" && spread.least != spread.most) json[key + "-spread"] = {spread.least, spread.most};
  }
  if (!m.notes.empty()) json["notes"] = m.notes;
  if (!m.why_not.empty()) json["why_not"] = m.why_not;
  return json;
}

}  // namespace

std::string range(const Measurement& m) { return figure(m.least) + ".." + figure(m.most); }

std::vector<std::string> keys_of(const std::vector<const Measurement*>& all) {
  std::vector<std::string> keys;
  auto add = [&](const std::string& key) {
    bool is_there = std::any_of(all.begin(), all.end(), [&](auto* m) { return m->detail.contains(key); });
    if (is_there && std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  };
  for (const char* key : kOrder) add(key);
  for (const auto* m : all)
    for (const auto& entry : m->detail) add(entry.first);
  return keys;
}

std::string title_of(const std::string& key) {
  if (key == "slept-percent") return "slept %";
  if (key == "two-cores-percent") return "two cores %";
  return key;
}

std::string detail_text(const Measurement& m, const std::string& key) {
  auto found = m.detail.find(key);
  if (found == m.detail.end()) return {};
  const Spread& of = found->second;
  if (key == "two-cores-percent" && of.most - of.least > 10)  // where the sides are may change with the round
    return fmt::format("{:.0f} ({:.0f}..{:.0f})", of.median, of.least, of.most);
  if (key == "samples" || (key.ends_with("-percent") && (of.median == 0 || of.median >= 1)))
    return fmt::format("{:.0f}", of.median);
  return figure(of.median);
}

void print_head() {
  fmt::print("{:<40} {:>9} {:>17}  {:<10} {:>7} {:>7}  {:<8} {}\n", "case", "median", "least..most", "unit", "/rival",
             "/floor", "", "target");
}

void print_row(const Row& row) {
  fmt::print("{:<40} {:>9} {:>17}  {} {:>7} {:>7}  {:<8} {}\n", row.of->name, figure(row.ours.value),
             row.ours.value ? range(row.ours) : row.ours.why_not, padded(row.of->unit, 10),
             figure(row.ratio_to_best_rival()), figure(row.ratio_to_floor()), verdict(row), row.of->target_text());
  print_contender("ours", row.ours);
  for (const auto& part : row.parts) print_contender("part", part);
  for (const auto& rival : row.rivals) print_contender("rival", rival);
  for (const auto& floor : row.floors) print_contender("floor", floor, row.ratio_to(floor));
  std::fflush(stdout);
}

std::string as_json(const std::vector<Row>& rows, const Machine& machine) {
  ordered_json all;
  for (const auto& [key, value] : machine) all["machine"][key] = value;
  all["rows"] = ordered_json::array();
  for (const Row& row : rows) {
    ordered_json json = {{"name", row.of->name}, {"unit", row.of->unit}, {"ours", number(row.ours.value)}};
    json["rivals"] = ordered_json::object();
    for (const auto& rival : row.rivals) json["rivals"][rival.name] = number(rival.value);
    json["floor"] = number(row.floor());
    json["ratio_to_best_rival"] = number(row.ratio_to_best_rival());
    json["ratio_to_floor"] = number(row.ratio_to_floor());
    json["target"] = row.of->target.empty() ? ordered_json(nullptr) : ordered_json(row.of->target_text());
    json["limits"] = ordered_json::array();  // the target's, in the unit of the row
    for (const Condition& condition : row.of->target) json["limits"].push_back(number(condition.limit(row)));
    json["met"] = row.met() ? ordered_json(*row.met()) : ordered_json(nullptr);
    if (!row.of->possible.empty())
      json["possible"] = {
          {"floor", row.of->possible}, {"ratio", number(row.ratio_to_possible())}, {"near", row.near_possible()}};
    json["more_is_better"] = row.of->more_is_better;
    auto& detail = json["detail"];
    detail["ours"] = detail_json(row.ours);
    for (const auto& part : row.parts) detail["parts"][part.name] = detail_json(part);
    for (const auto& rival : row.rivals) detail["rivals"][rival.name] = detail_json(rival);
    for (const auto& floor : row.floors) {
      detail["floors"][floor.name] = detail_json(floor);
      detail["floors"][floor.name]["ours_to_it"] = number(row.ratio_to(floor));
    }
    all["rows"].push_back(std::move(json));
  }
  return all.dump(2) + "\n";
}
