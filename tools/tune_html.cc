#include "tools/tune_html.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "aio/base/units.h"
#include "tools/heat_map.h"
#include "tools/human.h"

namespace strata::tools {
namespace {

using aio::TrafficResult;
using aio::TuneCandidate;
using aio::TuneReport;

constexpr std::string_view kStyle = R"(
:root { color-scheme: light dark;
  --ink: #1b1b1f; --paper: #fdfdfd; --soft: #5c5c66; --line: #d4d4da; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8ec; --paper: #17171b; --soft: #a2a2ad; --line: #3a3a42; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
pre, code { font: 13px/1.5 ui-monospace, monospace; }
pre { border: 1px solid var(--line); border-radius: 6px; padding: .7rem 1rem; overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; }
th, td { text-align: left; padding: .2rem .7rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
td.why { white-space: normal; min-width: 14rem; }
tr.winner td { font-weight: 600; }
.wide { overflow-x: auto; } .soft { color: var(--soft); }
.maps { display: flex; flex-wrap: wrap; gap: 1.2rem; } figure { margin: 0; }
figcaption { font-weight: 600; margin-bottom: .3rem; }
svg text { font: 11px ui-monospace, monospace; fill: var(--ink); }
svg text.on { fill: #fff; } svg text.off { fill: #111; }
svg .empty { fill: none; stroke: var(--line); }
svg .win { fill: none; stroke: var(--ink); stroke-width: 3; }
)";

// From a dark violet over green to a bright yellow: even steps of lightness, which also readers see
// that cannot tell red from green, on either background.
constexpr std::array<std::string_view, kHeatLevels> kFill = {
    "#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725"};
constexpr size_t kFirstBright = 4;

std::string Interval(const TrafficResult& result) {
  return fmt::format("{} to {}", GigabytesPerSecond(result.low_bytes_per_s),
                     GigabytesPerSecond(result.high_bytes_per_s));
}

std::string CpuPerGigabyte(double cpu_s_per_byte) {
  return FormatDuration(std::chrono::duration<double>(cpu_s_per_byte * 1e9));
}

// One map as inline SVG.
class Svg {
 public:
  Svg(const HeatMap& map, size_t number) : map_(map), number_(number) {}

  std::string Draw() const {
    size_t width = kLeft + map_.queue_depths.size() * kCellWidth + 2;
    size_t height = kTop + map_.block_sizes_bytes.size() * kCellHeight + 2;
    std::string svg = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{0}\" height=\"{1}\" "
        "viewBox=\"0 0 {0} {1}\" aria-labelledby=\"t{2} d{2}\">\n"
        "<title id=\"t{2}\">{3}</title>\n<desc id=\"d{2}\">{4}</desc>\n",
        width, height, number_, EscapeHtml(Title()), EscapeHtml(Summary()));
    svg += Labels();
    for (size_t row = 0; row < map_.block_sizes_bytes.size(); ++row)
      for (size_t column = 0; column < map_.queue_depths.size(); ++column) svg += Cell(row, column);
    return svg + "</svg>\n";
  }

  std::string Title() const {
    return fmt::format("{} with {}, GB/s", TrafficName(map_.traffic), map_.engine);
  }

 private:
  static constexpr size_t kLeft = 72, kTop = 22, kCellWidth = 52, kCellHeight = 26;

  // For those who do not see the map.
  std::string Summary() const {
    const HeatCell* best = nullptr;
    for (const std::optional<HeatCell>& cell : map_.cells)
      if (cell && (!best || cell->result.median_bytes_per_s > best->result.median_bytes_per_s))
        best = &*cell;
    return best == nullptr ? "Nothing was measured."
                           : fmt::format(
                                 "A row per block size, a column per queue depth. The "
                                 "fastest here is {} with {} GB/s.",
                                 DescribeSetting(best->setting),
                                 GigabytesPerSecond(best->result.median_bytes_per_s));
  }

  std::string Labels() const {
    std::string labels = "<text x=\"0\" y=\"14\">block \\ depth</text>\n";
    for (size_t column = 0; column < map_.queue_depths.size(); ++column)
      labels += fmt::format("<text x=\"{}\" y=\"14\" text-anchor=\"middle\">{}</text>\n",
                            X(column) + kCellWidth / 2 + (column == 0 ? 14 : 0),
                            map_.queue_depths[column]);
    for (size_t row = 0; row < map_.block_sizes_bytes.size(); ++row)
      labels += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n", kLeft - 6,
                            Y(row) + 17, EscapeHtml(FormatBytes(map_.block_sizes_bytes[row])));
    return labels;
  }

  std::string Cell(size_t row, size_t column) const {
    std::string box = fmt::format("x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"", X(column) + 1,
                                  Y(row) + 1, kCellWidth - 2, kCellHeight - 2);
    const std::optional<HeatCell>& cell = map_.at(row, column);
    if (!cell) return fmt::format("<rect class=\"empty\" {}/>\n", box);
    size_t level = HeatLevel(map_.ShareOfBest(*cell));
    return fmt::format(
        "<g><title>{}</title><rect fill=\"{}\" {}/>"
        "<text class=\"{}\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}{}</text>{}</g>\n",
        EscapeHtml(Tooltip(*cell)), kFill[level], box, level < kFirstBright ? "on" : "off",
        X(column) + kCellWidth / 2, Y(row) + 17,
        GigabytesPerSecond(cell->result.median_bytes_per_s), cell->is_winner ? " \u2605" : "",
        cell->is_winner ? fmt::format("<rect class=\"win\" {}/>", box) : "");
  }

  std::string Tooltip(const HeatCell& cell) const {
    return fmt::format("{}: {} GB/s, 95 % {}, {} run{}{}", DescribeSetting(cell.setting),
                       GigabytesPerSecond(cell.result.median_bytes_per_s), Interval(cell.result),
                       cell.result.num_samples, cell.result.num_samples == 1 ? "" : "s",
                       cell.is_winner ? ", the winner" : "");
  }

  size_t X(size_t column) const { return kLeft + column * kCellWidth; }
  size_t Y(size_t row) const { return kTop + row * kCellHeight; }

  const HeatMap& map_;
  size_t number_;
};

std::string Maps(const TuneReport& report) {
  std::string html = "<h2>Bandwidth by block size and queue depth</h2>\n<div class=\"maps\">\n";
  size_t number = 0;
  for (const HeatMap& map : HeatMapsOf(report)) {
    Svg svg(map, ++number);
    html += fmt::format("<figure><figcaption>{}</figcaption>\n{}</figure>\n",
                        EscapeHtml(svg.Title()), svg.Draw());
  }
  html += "</div>\n<p class=\"soft\">Share of the best with the same traffic, at least: ";
  for (size_t level = 0; level < kHeatLevels; ++level)
    html += fmt::format("<span style=\"background:{};color:{};padding:.1rem .4rem\">{}</span>",
                        kFill[level], level < kFirstBright ? "#fff" : "#111", HeatLevelName(level));
  return html +
         ". \u2605 the winner. Of several thread counts the fastest is shown. Empty cells were not "
         "measured.</p>\n";
}

std::string Winner(const TuneReport& report) {
  if (!report.winner) return "<p>No setting was measured.</p>\n";
  const TuneCandidate& winner = report.candidates[*report.winner];
  std::string html = fmt::format(
      "<p><strong>{}</strong>: {} of CPU per GB, {} in flight.</p>\n"
      "<table>\n<thead><tr><th scope=\"col\">traffic</th><th scope=\"col\">GB/s</th>"
      "<th scope=\"col\">95 % interval</th></tr></thead>\n<tbody>\n",
      EscapeHtml(DescribeSetting(winner.setting)), CpuPerGigabyte(winner.cpu_s_per_byte),
      FormatBytes(winner.setting.in_flight_bytes()));
  for (size_t t = 0; t < report.traffics.size(); ++t)
    html += fmt::format("<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td>{}</td></tr>\n",
                        TrafficName(report.traffics[t]),
                        GigabytesPerSecond(winner.traffics[t].median_bytes_per_s),
                        Interval(winner.traffics[t]));
  return html + "</tbody>\n</table>\n";
}

std::string Search(const TuneReport& report) {
  size_t measured =
      static_cast<size_t>(std::count_if(report.candidates.begin(), report.candidates.end(),
                                        [](const TuneCandidate& each) { return each.speed > 0; }));
  return fmt::format(
      "<p class=\"soft\">{}{} of {} settings were measured in {} (budget {}): {} rounds, {} "
      "measurements of {}, seed {}.</p>\n",
      report.cancelled ? "The search was cancelled; this is what was known by then. " : "",
      measured, report.candidates.size(), FormatDuration(report.used),
      FormatDuration(report.budget), report.rounds, report.measurements,
      FormatDuration(report.sample), report.seed);
}

std::string Row(const TuneReport& report, size_t i) {
  const TuneCandidate& candidate = report.candidates[i];
  std::string html = fmt::format("<tr{}><td>{}</td>", i == report.winner ? " class=\"winner\"" : "",
                                 EscapeHtml(DescribeSetting(candidate.setting)));
  if (candidate.speed > 0) {
    html += fmt::format("<td class=\"n\">{:.3f}</td><td>{:.2f} to {:.2f}</td>", candidate.speed,
                        candidate.low_speed, candidate.high_speed);
  } else {
    html += "<td></td><td></td>";
  }
  for (const TrafficResult& result : candidate.traffics)
    html += result.num_samples == 0
                ? "<td></td>"
                : fmt::format("<td class=\"n\">{} <span class=\"soft\">({})</span></td>",
                              GigabytesPerSecond(result.median_bytes_per_s), Interval(result));
  html += candidate.speed > 0 ? fmt::format("<td class=\"n\">{}</td><td class=\"n\">{}</td>",
                                            CpuPerGigabyte(candidate.cpu_s_per_byte),
                                            candidate.traffics[0].num_samples)
                              : "<td></td><td></td>";
  return html + fmt::format("<td>{}{}</td><td class=\"why\">{}</td></tr>\n",
                            FateName(candidate.fate),
                            candidate.round > 0 ? fmt::format(", round {}", candidate.round) : "",
                            EscapeHtml(candidate.why));
}

std::string Candidates(const TuneReport& report) {
  std::string html =
      "<h2>All settings</h2>\n<p class=\"soft\">Speed is that of training traffic; 1 is the best "
      "in "
      "reading, writing and both at once. In brackets, and for the speed beside it: 95 % intervals "
      "of the median.</p>\n<div class=\"wide\"><table>\n<thead><tr>";
  std::vector<std::string> headers = {"setting", "speed", "95 %"};
  for (aio::Traffic traffic : report.traffics)
    headers.push_back(fmt::format("{} GB/s", TrafficName(traffic)));
  headers.insert(headers.end(), {"CPU per GB", "runs", "outcome", "why"});
  for (const std::string& header : headers)
    html += fmt::format("<th scope=\"col\">{}</th>", header);
  html += "</tr></thead>\n<tbody>\n";
  std::vector<size_t> order(report.candidates.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return report.candidates[a].speed > report.candidates[b].speed;
  });
  for (size_t i : order) html += Row(report, i);
  return html + "</tbody>\n</table></div>\n";
}

std::string Facts(const TunePage& page) {
  std::string html = "<h2>Machine and command</h2>\n<table>\n<tbody>\n";
  for (const auto& [what, which] : page.facts)
    html += fmt::format("<tr><th scope=\"row\">{}</th><td class=\"why\">{}</td></tr>\n",
                        EscapeHtml(what), EscapeHtml(which));
  return html +
         fmt::format("</tbody>\n</table>\n<pre><code>{}</code></pre>\n", EscapeHtml(page.command));
}

std::string Section(const TunePage& page) {
  if (page.aio_section.empty()) return "";
  return fmt::format("<h2>For the configuration of a run</h2>\n<pre><code>{}</code></pre>\n",
                     EscapeHtml(page.aio_section));
}

}  // namespace

std::string EscapeHtml(std::string_view text) {
  std::string escaped;
  for (char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        bool is_forbidden = static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t';
        escaped += is_forbidden ? "\uFFFD" : std::string(1, c);
    }
  }
  return escaped;
}

std::string TuneReportToHtml(const TuneReport& report, const TunePage& page) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n"
      "<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
      "<title>strata io tune</title>\n<style>{}</style>\n</head>\n<body>\n"
      "<h1>The setting for this drive</h1>\n{}{}{}{}{}{}</body>\n</html>\n",
      kStyle, Winner(report), Search(report), Section(page), Maps(report), Candidates(report),
      Facts(page));
}

}  // namespace strata::tools
