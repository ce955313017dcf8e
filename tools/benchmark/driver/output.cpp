#include "output.hpp"

#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

using nlohmann::ordered_json;

std::string figure(std::optional<double> value) {
  if (!value) return "-";
  double v = *value, size = std::abs(v);
  if (size >= 1e7) return fmt::format("{:.3g}", v);
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
  return !met ? "unknown" : *met ? "met" : "NOT MET";
}

std::string one(const Measurement& m) {
  return m.value ? fmt::format("{} {}", m.name, figure(m.value)) : fmt::format("{} ({})", m.name, m.why_not);
}

std::string detail_of(const Measurement& m) {
  std::string text;
  for (const auto& [key, value] : m.detail)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", key, figure(value));
  for (const auto& note : m.notes) text += (text.empty() ? "" : ", ") + note;
  return text;
}

ordered_json number(std::optional<double> value) { return value ? ordered_json(*value) : ordered_json(nullptr); }

ordered_json detail_json(const Measurement& m) {
  ordered_json json = {{"value", number(m.value)}};
  if (m.value) json["spread"] = {m.least, m.most};
  for (const auto& [key, value] : m.detail) json[key] = value;
  if (!m.notes.empty()) json["notes"] = m.notes;
  if (!m.why_not.empty()) json["why_not"] = m.why_not;
  return json;
}

}  // namespace

void print_head() {
  fmt::print("{:<30} {:>9} {:<10} {:>17} {:>7} {:>9} {:>7}  {:<8} {}\n", "case", "ours", "unit", "least..most",
             "/rival", "floor", "/floor", "", "target");
}

void print_row(const Row& row) {
  std::string spread = row.ours.value ? figure(row.ours.least) + ".." + figure(row.ours.most) : row.ours.why_not;
  fmt::print("{:<30} {:>9} {} {:>17} {:>7} {:>9} {:>7}  {:<8} {}\n", row.of->name, figure(row.ours.value),
             padded(row.of->unit, 10), spread, figure(row.ratio_to_best_rival()), figure(row.floor()),
             figure(row.ratio_to_floor()), verdict(row), row.of->target_text());
  auto list = [](const char* title, const std::vector<Measurement>& all) {
    std::string text;
    for (const auto& m : all) text += (text.empty() ? "" : ", ") + one(m);
    if (!text.empty()) fmt::print("    {} {}\n", title, text);
  };
  list("parts: ", row.parts);
  list("rivals:", row.rivals);
  list("floors:", row.floors);
  if (auto text = detail_of(row.ours); !text.empty()) fmt::print("    ours:   {}\n", text);
  for (const auto* all : {&row.parts, &row.rivals, &row.floors})
    for (const auto& m : *all)
      if (auto text = detail_of(m); !text.empty()) fmt::print("    {}: {}\n", m.name, text);
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
    json["met"] = row.met() ? ordered_json(*row.met()) : ordered_json(nullptr);
    json["more_is_better"] = row.of->more_is_better;
    auto& detail = json["detail"];
    detail["ours"] = detail_json(row.ours);
    for (const auto& part : row.parts) detail["parts"][part.name] = detail_json(part);
    for (const auto& rival : row.rivals) detail["rivals"][rival.name] = detail_json(rival);
    for (const auto& floor : row.floors) detail["floors"][floor.name] = detail_json(floor);
    all["rows"].push_back(std::move(json));
  }
  return all.dump(2) + "\n";
}
