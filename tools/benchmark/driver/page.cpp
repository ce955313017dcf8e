// The HTML page: the targets in one table, then a table a case whose rows hold a strip of one chart. No script, nothing
// fetched; what the charts show stands beside them as text, and nothing is said by colour alone.
#include <algorithm>
#include <cmath>
#include <iterator>

#include <fmt/format.h>

#include "output.hpp"

namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --ink: #1b1d23; --paper: #fff; --dim: #5b6170; --line: #e3e5ea; --band: #f5f6f8;
  --ours: #0b5cd5; --rival: #7a8292; --floor: #a86a00; --target: #7a3fc4; --met: #17713a; --not: #b3261e }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e9ed; --paper: #15171c; --dim: #a0a6b4; --line: #2d313a;
  --band: #1d2027; --ours: #6cb0ff; --rival: #98a0b0; --floor: #e5ae4c; --target: #c39bff; --met: #63cf8b; --not: #ff8a80 } }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 80rem; margin: 0 auto;
  padding: 2rem 1.25rem 4rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.5rem 0 .6rem } p { margin: .3rem 0 }
h3 { font-size: 1rem; margin: 0 } .dim, caption { color: var(--dim) } a { color: inherit }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .5rem 1.5rem; margin: 1.2rem 0 0 }
dt { color: var(--dim); font-size: .8rem } dd { margin: 0 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .8125rem }
th { font-weight: 600; text-align: left } thead th { color: var(--dim); font-weight: 400; white-space: nowrap }
td, th { padding: .22rem .7rem .22rem 0; border-bottom: 1px solid var(--line) }
td:last-child, th:last-child { padding-right: 0 }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.verdict { white-space: nowrap; font-weight: 600 } .met { color: var(--met) } .not { color: var(--not) }
section { margin: 2rem 0 0; border-top: 2px solid var(--ink); padding-top: .7rem } section p { font-size: .875rem }
section header { display: flex; flex-wrap: wrap; gap: .2rem 1rem; align-items: baseline }
section td, section th { border: 0; padding-top: 0; padding-bottom: 0 } section tbody tr:nth-child(even) { background: var(--band) }
section tbody th { font-weight: 400; width: 14rem; min-width: 11rem; padding-left: 2.8rem; text-indent: -2.8rem } section tbody tr.ours th, section tbody tr.ours td.value { font-weight: 700 }
section td.chart { padding: 0 .8rem 0 0; width: 313px } .kind { display: inline-block; width: 2.8rem; text-indent: 0 }
svg { display: block } svg text { font: 11px system-ui, sans-serif; fill: var(--dim) }
.grid { stroke: var(--line) } .at-floor { stroke: var(--floor); stroke-dasharray: 1 3 } .at-target { stroke: var(--target); stroke-dasharray: 5 3; stroke-width: 1.5 }
svg text.on-target { fill: var(--target) } .notes { margin-top: .4rem }
.mark { stroke-width: 2 } .ours .mark { fill: var(--ours); stroke: var(--ours) } .rival .mark { fill: var(--paper); stroke: var(--rival) }
.floor .mark { fill: var(--floor); stroke: var(--floor) } .whisker { stroke-width: 2; opacity: .6 }
.ours .whisker { stroke: var(--ours) } .rival .whisker { stroke: var(--rival) } .floor .whisker { stroke: var(--floor) }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; margin: .6rem 0; font-size: .875rem } .legend span { display: inline-flex; align-items: center; gap: .4rem }
)";

std::string escaped(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '&') out += "&amp;";
    else if (c == '"') out += "&quot;";
    else out += c;
  }
  return out;
}

std::string anchor(const Row& row) {
  std::string name = row.of->name;
  std::replace(name.begin(), name.end(), '/', '-');
  return name;
}

std::string verdict(const Row& row) {
  if (row.of->target.empty() || row.quick) return "";
  auto met = row.met();
  return !met                  ? "<span class=verdict>? unknown</span>"
         : *met                ? "<span class=\"verdict met\">✓ met</span>"
         : row.near_possible() ? "<span class=verdict>≈ near what is possible</span>"
                               : "<span class=\"verdict not\">✗ not met</span>";
}

struct Line {
  const Measurement* of;
  const char* kind;  // what the table says
  const char* look;  // ours, rival or floor
};

// Where a value stands in a strip of kWidth: on a logarithmic scale, unless something is not above zero.
class Scale {
 public:
  static constexpr double kWidth = 300, kMargin = 14;

  explicit Scale(const std::vector<double>& values) {
    auto [least, most] = std::minmax_element(values.begin(), values.end());
    logarithmic_ = *least > 0;
    low_ = of(*least);
    high_ = of(*most);
    double room = std::max(0.06 * (high_ - low_), logarithmic_ ? 0.08 : std::max(1e-9, 0.05 * std::abs(high_)));
    low_ -= room;
    high_ += room;
  }
  double at(double value) const { return kMargin + (kWidth - 2 * kMargin) * (of(value) - low_) / (high_ - low_); }
  bool is_logarithmic() const { return logarithmic_; }

  // Round numbers in its range, no more of them than can be read.
  std::vector<double> ticks() const {
    std::vector<double> all;
    if (!logarithmic_) {
      double step = std::pow(10, std::floor(std::log10((high_ - low_) / 2)));
      while ((high_ - low_) / step > 6) step *= 2;
      for (double tick = std::ceil(low_ / step) * step; tick <= high_; tick += step) all.push_back(tick);
      return all;
    }
    double decades = high_ - low_;
    std::vector<double> steps = {1};
    if (decades < 3) steps = {1, 2, 5};
    if (decades < 0.7) steps = {1, 1.5, 2, 3, 4, 5, 6, 8};
    if (decades < 0.3)
      steps = {1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2, 2.2, 2.5, 2.8, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9};
    for (double decade = std::floor(low_); decade <= high_; ++decade)
      for (double step : steps)
        if (double tick = step * std::pow(10, decade); of(tick) >= low_ && of(tick) <= high_) all.push_back(tick);
    return all;
  }

 private:
  double of(double value) const { return logarithmic_ ? std::log10(value) : value; }
  bool logarithmic_ = false;
  double low_ = 0, high_ = 1;
};

// A tick without digits that say nothing.
std::string tick_text(double tick) {
  if (tick >= 1e6) return fmt::format("{:.4g}M", tick / 1e6);
  if (tick >= 1e3) return fmt::format("{:.4g}k", tick / 1e3);
  return fmt::format("{:.4g}", tick + 0.);  // no -0
}

constexpr double kStrip = 28, kMiddle = kStrip / 2;

// Ours a disc, a rival a ring, the floor a triangle: not told by colour alone.
std::string mark(const std::string& look, double x) {
  if (look == "floor") return fmt::format("<path class=mark d=\"M{:.1f} {}l5 9h-10z\"/>", x, kMiddle - 5);
  return fmt::format("<circle class=mark cx={:.1f} cy={} r={} />", x, kMiddle, look == "ours" ? 5.5 : 4.5);
}

std::string svg_begin(double height) {
  return fmt::format("<svg width={} height={} aria-hidden=true>", Scale::kWidth, height);
}

std::string upright(const char* look, double x) {
  return fmt::format("<line class={} x1={:.1f} x2={:.1f} y1=0 y2={} />", look, x, x, kStrip);
}

// One measurement's part of the chart.
std::string strip(const Line& line, const Scale& scale, const std::vector<double>& limits,
                  std::optional<double> floor) {
  std::string svg = svg_begin(kStrip);
  for (double tick : scale.ticks()) svg += upright("grid", scale.at(tick));
  if (floor) svg += upright("at-floor", scale.at(*floor));
  for (double limit : limits) svg += upright("at-target", scale.at(limit));
  if (line.of->value) {
    svg += fmt::format("<line class=whisker x1={:.1f} x2={:.1f} y1={} y2={} />", scale.at(line.of->least),
                       scale.at(line.of->most), kMiddle, kMiddle);
    svg += mark(line.look, scale.at(*line.of->value));
  }
  return svg + "</svg>";
}

std::string axis(const Scale& scale, const std::vector<double>& limits) {
  std::string svg = svg_begin(kStrip);
  double last = -100;
  for (double tick : scale.ticks()) {
    double x = scale.at(tick);
    svg += fmt::format("<line class=grid x1={:.1f} x2={:.1f} y1=0 y2=5 />", x, x);
    if (x - last < 34) continue;  // no room for its text
    svg += fmt::format("<text x={:.1f} y=17 text-anchor=middle>{}</text>", x, tick_text(tick));
    last = x;
  }
  for (double limit : limits)
    svg += fmt::format("<line class=at-target x1={0:.1f} x2={0:.1f} y1=0 y2=7 />", scale.at(limit));
  return svg + "</svg>";
}

std::string chart_table(const std::string& title, const std::string& unit, const std::vector<Line>& lines,
                        const std::vector<double>& limits, std::optional<double> floor) {
  std::vector<double> values = limits;
  std::vector<const Measurement*> all;
  for (const Line& line : lines) {
    all.push_back(line.of);
    if (line.of->value) values.insert(values.end(), {*line.of->value, line.of->least, line.of->most});
  }
  auto keys = keys_of(all);
  std::erase_if(keys,
                [](const std::string& key) { return key == "p50" || key == "samples"; });  // the first is the median
  if (values.empty()) values = {1, 10};
  Scale scale(values);
  std::string html = fmt::format(
      "<div class=scroll><table aria-label=\"{}\"><thead><tr><th scope=col>who</th><th scope=col>{}, {} scale</th>"
      "<th scope=col class=n>median</th><th scope=col class=n>least..most</th>",
      escaped(title), escaped(unit), scale.is_logarithmic() ? "logarithmic" : "linear");
  for (const auto& key : keys) html += fmt::format("<th scope=col class=n>{}</th>", escaped(title_of(key)));
  html += "</tr></thead><tbody>\n";
  for (const Line& line : lines) {
    const Measurement& m = *line.of;
    html += fmt::format(
        "<tr class={}><th scope=row><span class=\"kind dim\">{}</span>{}</th><td class=chart>{}</td>"
        "<td class=\"n value\">{}</td><td class=\"n dim\">{}</td>",
        line.look, line.kind, escaped(m.name), strip(line, scale, limits, floor),
        m.value ? figure(m.value) : escaped(m.why_not), m.value ? range(m) : "");
    for (const auto& key : keys) html += fmt::format("<td class=n>{}</td>", detail_text(m, key));
    html += "</tr>\n";
  }
  html += fmt::format("</tbody><tfoot><tr><td></td><td class=chart>{}</td></tr></tfoot></table></div>\n",
                      axis(scale, limits));
  return html;
}

std::string notes(const std::vector<Line>& lines) {
  std::vector<std::pair<std::string, std::string>> whose;  // note -> names
  for (const Line& line : lines) {
    for (const auto& note : line.of->notes) {
      auto same = std::find_if(whose.begin(), whose.end(), [&](const auto& entry) { return entry.first == note; });
      if (same == whose.end()) whose.emplace_back(note, line.of->name);
      else same->second += ", " + line.of->name;
    }
  }
  std::string html;
  for (const auto& [note, names] : whose)
    html += fmt::format("<p class=\"dim notes\">{}: {}</p>\n", escaped(names), escaped(note));
  return html;
}

std::string ratio(std::optional<double> of) { return of ? fmt::format("{} ×", figure(of)) : "–"; }

std::string case_section(const Row& row) {
  std::vector<Line> lines = {{&row.ours, "ours", "ours"}}, parts;
  for (const auto& rival : row.rivals) lines.push_back({&rival, "rival", "rival"});
  for (const auto& floor : row.floors) lines.push_back({&floor, "floor", "floor"});
  for (const auto& part : row.parts) parts.push_back({&part, "part", "ours"});
  std::vector<double> limits;
  for (const Condition& condition : row.of->target)
    if (auto limit = condition.limit(row)) limits.push_back(*limit);

  std::string html = fmt::format(
      "<section id=\"{}\"><header><h3>{}</h3><span class=dim>{}, {} is better</span>{}</header>\n", anchor(row),
      escaped(row.of->name), escaped(row.of->unit), row.of->more_is_better ? "more" : "less", verdict(row));
  std::string said;
  if (!row.of->target.empty()) {
    said = "Target: " + row.of->target_text();
    std::string numbers;
    for (double limit : limits) numbers += (numbers.empty() ? "" : ", ") + figure(limit);
    if (!limits.empty()) said += ", here " + numbers;
    said += ". ";
  }
  if (row.best_rival())
    said += fmt::format("Ours is {} the best rival's ({}). ", ratio(row.ratio_to_best_rival()), row.best_rival()->name);
  if (row.floor()) said += fmt::format("Ours is {} the floor. ", ratio(row.ratio_to_floor()));
  if (!said.empty()) html += fmt::format("<p>{}</p>\n", escaped(said));
  html += chart_table(row.of->name, row.of->unit, lines, limits, row.floor());
  if (!parts.empty()) html += chart_table(row.of->name + ", its parts", "in the unit each names", parts, {}, {});
  lines.insert(lines.end(), parts.begin(), parts.end());
  return html + notes(lines) + "</section>\n";
}

std::string overview(const std::vector<Row>& rows) {
  std::string html =
      "<div class=scroll><table aria-label=\"All cases\"><thead><tr><th scope=col>case</th><th scope=col>unit</th>"
      "<th scope=col class=n>ours</th><th scope=col class=n>least..most</th><th scope=col class=n>÷ best rival</th>"
      "<th scope=col>best rival</th><th scope=col class=n>÷ floor</th><th scope=col>target</th><th scope=col></th></tr>"
      "</thead><tbody>\n";
  for (const Row& row : rows) {
    html += fmt::format(
        "<tr><th scope=row><a href=\"#{}\">{}</a></th><td class=dim>{}</td><td class=n>{}</td><td class=\"n "
        "dim\">{}</td>"
        "<td class=n>{}</td><td>{}</td><td class=n>{}</td><td>{}</td><td>{}</td></tr>\n",
        anchor(row), escaped(row.of->name), escaped(row.of->unit),
        row.ours.value ? figure(row.ours.value) : escaped(row.ours.why_not), row.ours.value ? range(row.ours) : "",
        figure(row.ratio_to_best_rival()), row.best_rival() ? escaped(row.best_rival()->name) : "",
        figure(row.ratio_to_floor()), escaped(row.of->target_text()), verdict(row));
  }
  return html + "</tbody></table></div>\n";
}

std::string legend() {
  std::string html = "<p class=legend>";
  for (auto [look, text] :
       {std::pair{"ours", "ours"}, {"rival", "a rival"}, {"floor", "the floor: what the machine itself takes"}})
    html += fmt::format("<span class={}><svg width=16 height={} aria-hidden=true>{}</svg>{}</span>", look, kStrip,
                        mark(look, 8), text);
  html += fmt::format(
      "<span><svg width=8 height={0} aria-hidden=true><line class=at-target x1=4 x2=4 y1=0 y2={0} /></svg>"
      "the target's limits</span>",
      kStrip);
  return html +
         "<span>A mark is the median of the rounds, the line through it reaches from least to most.</span></p>\n";
}

}  // namespace

std::string as_page(const std::vector<Row>& rows, const Machine& machine) {
  int met = 0, near = 0, targets = 0;
  for (const Row& row : rows) {
    targets += !row.of->target.empty();
    met += row.met().value_or(false);
    near += row.met() == false && row.near_possible();
  }
  bool quick = !rows.empty() && rows[0].quick;
  std::string page =
      "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport "
      "content=\"width=device-width,initial-scale=1\"><title>mp: benchmark</title><style>";
  page += kStyle;
  page += "</style></head><body>\n<h1>mp beside its rivals and the machine's floors</h1>\n";
  page += quick ? "<p>A quick run, for a sign of life: the figures mean nothing.</p>\n"
                : fmt::format("<p>{} of {} targets met, {} more near what is possible here.</p>\n", met, targets, near);
  page += "<dl>\n";
  for (const auto& [key, value] : machine)
    page += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>\n", escaped(key), escaped(value));
  page += "</dl>\n<h2>All cases</h2>\n" + overview(rows) + "<h2>Each case</h2>\n" + legend();
  for (const Row& row : rows) page += case_section(row);
  return page + "</body></html>\n";
}
