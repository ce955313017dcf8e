// The HTML page: one bar chart a case in plain SVG, no script, nothing fetched.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "output.hpp"

namespace {

constexpr const char* kStyle = R"(
:root { --ink: #1c1d22; --paper: #fff; --dim: #667; --ours: #1f6feb; --rival: #b9c0cc; --floor: #e0a43a; --line: #dde }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6ea; --paper: #16171b; --dim: #99a; --ours: #58a6ff; --rival: #4a5160; --floor: #c98f2b; --line: #333 }
}
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem }
h2 { font-size: 1.05rem; margin: 2.2rem 0 .2rem } p { margin: .2rem 0 } .dim { color: var(--dim) }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .15rem .6rem .15rem 0;
        border-bottom: 1px solid var(--line); vertical-align: top } td.n { text-align: right; font-variant-numeric: tabular-nums }
.met { color: #2a8f4f } .not { color: #d0453b } .scroll { overflow-x: auto }
svg { width: 100%; height: auto } svg text { font: 12px system-ui, sans-serif; fill: var(--ink) }
.ours { fill: var(--ours) } .rival { fill: var(--rival) } .floor { fill: var(--floor) } .range { stroke: var(--ink) }
)";

std::string escaped(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '&') out += "&amp;";
    else out += c;
  }
  return out;
}

std::string verdict(const Row& row) {
  if (row.of->target.empty() || row.quick) return "";
  auto met = row.met();
  return !met ? "unknown" : *met ? "<span class=met>met</span>" : "<span class=not>not met</span>";
}

// Bars from zero; on a logarithmic scale, which the caption says, where the largest dwarfs the smallest.
std::string chart(const Row& row) {
  struct Bar {
    const Measurement* of;
    const char* kind;
  };
  std::vector<Bar> bars = {{&row.ours, "ours"}};
  for (const auto& part : row.parts) bars.push_back({&part, "ours"});
  for (const auto& rival : row.rivals) bars.push_back({&rival, "rival"});
  for (const auto& floor : row.floors) bars.push_back({&floor, "floor"});
  double least = INFINITY, most = 0;
  for (const Bar& bar : bars) {
    if (!bar.of->value || *bar.of->value <= 0) continue;
    least = std::min(least, *bar.of->value);
    most = std::max(most, bar.of->most);
  }
  if (most <= 0) return "<p class=dim>no figures</p>\n";
  bool logarithmic = most / least > 30;
  constexpr double kLeft = 240, kWidth = 500, kStep = 22;
  auto length = [&](double value) {
    if (value <= 0) return 0.0;
    if (!logarithmic) return kWidth * value / most;
    double low = std::log10(least) - 0.5;
    return std::max(0.0, kWidth * (std::log10(value) - low) / (std::log10(most) - low));
  };
  double y = 0;
  std::string svg = fmt::format("<svg viewBox=\"0 0 860 {}\" role=img>\n", kStep * static_cast<double>(bars.size()));
  for (const Bar& bar : bars) {
    svg += fmt::format("<text x={} y={} text-anchor=end>{}</text>", kLeft - 8, y + 15, escaped(bar.of->name));
    if (bar.of->value) {
      double end = length(*bar.of->value);
      svg += fmt::format("<rect class={} x={} y={} width={:.1f} height=16 rx=2></rect>", bar.kind, kLeft, y + 3,
                         std::max(end, 1.0));
      svg += fmt::format("<path class=range d=\"M{:.1f} {}h{:.1f}\"></path>", kLeft + length(bar.of->least), y + 11,
                         length(bar.of->most) - length(bar.of->least));
      svg += fmt::format("<text x={:.1f} y={}>{}</text>\n", kLeft + std::max(end, length(bar.of->most)) + 8, y + 15,
                         figure(bar.of->value));
    } else {
      svg += fmt::format("<text x={} y={}>{}</text>\n", kLeft, y + 15, escaped(bar.of->why_not));
    }
    y += kStep;
  }
  return svg + "</svg>\n" + (logarithmic ? "<p class=dim>logarithmic scale</p>\n" : "");
}

std::string details(const Row& row) {
  std::string text;
  for (const auto* list : {&row.parts, &row.rivals, &row.floors}) {
    for (const auto& m : *list) {
      std::string line;
      for (const auto& [key, value] : m.detail) line += fmt::format(", {} {}", key, figure(value));
      for (const auto& note : m.notes) line += ", " + note;
      if (!line.empty())
        text += fmt::format("<p class=dim>{}{}</p>\n", escaped(m.name), escaped(": " + line.substr(2)));
    }
  }
  std::string ours;
  for (const auto& [key, value] : row.ours.detail) ours += fmt::format(", {} {}", key, figure(value));
  for (const auto& note : row.ours.notes) ours += ", " + note;
  if (!ours.empty()) text = fmt::format("<p class=dim>ours: {}</p>\n", escaped(ours.substr(2))) + text;
  return text;
}

}  // namespace

std::string as_page(const std::vector<Row>& rows, const Machine& machine) {
  std::string page =
      "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport "
      "content=\"width=device-width\"><title>mp: benchmark</title><style>";
  page += kStyle;
  page += "</style></head><body>\n<h1>mp beside its rivals</h1>\n<div class=scroll><table>\n";
  for (const auto& [key, value] : machine)
    page += fmt::format("<tr><th>{}</th><td>{}</td></tr>\n", escaped(key), escaped(value));
  page +=
      "</table></div>\n<h2>Targets</h2>\n<div class=scroll><table><tr><th>case</th><th>unit</th><th>ours</th>"
      "<th>/ best rival</th><th>/ floor</th><th>target</th><th></th></tr>\n";
  for (const Row& row : rows) {
    page += fmt::format(
        "<tr><td>{}</td><td>{}</td><td class=n>{}</td><td class=n>{}</td><td class=n>{}</td><td>{}</td>"
        "<td>{}</td></tr>\n",
        escaped(row.of->name), escaped(row.of->unit), figure(row.ours.value), figure(row.ratio_to_best_rival()),
        figure(row.ratio_to_floor()), escaped(row.of->target_text()), verdict(row));
  }
  page += "</table></div>\n";
  for (const Row& row : rows) {
    page += fmt::format("<h2>{}, {}{}</h2>\n", escaped(row.of->name), escaped(row.of->unit),
                        row.of->more_is_better ? ", more is better" : "");
    if (!row.of->target.empty()) page += fmt::format("<p>{} {}</p>\n", escaped(row.of->target_text()), verdict(row));
    page += chart(row) + details(row);
  }
  return page + "</body></html>\n";
}
