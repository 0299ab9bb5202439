#include "tools/preflight_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>
#include <tuple>
#include <vector>

#include "tools/table.h"

namespace strata::tools {
namespace {

using aio::Finding;
using aio::FindingSeverity;
using aio::FindingSeverityName;
using aio::Preflight;

// Names of drives and mounts come from outside: they must not steer the terminal.
std::string Printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = '?';
  }
  return text;
}

std::string Paint(std::string_view text, FindingSeverity severity, Colour colour) {
  if (colour == Colour::kNone) return std::string(text);
  std::string_view code = severity == FindingSeverity::kProblem ? "1;31"
                          : severity == FindingSeverity::kNote  ? "33"
                                                                : "32";
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

// The severity stands at the begin of its line, where colour does not disturb the columns.
std::string PaintLines(const std::string& table, const Preflight& preflight, Colour colour) {
  std::istringstream lines(table);
  std::string text, line;
  for (int i = 0; i < 2 && std::getline(lines, line); ++i) text += line + "\n";
  for (const Finding& finding : preflight.findings) {
    std::getline(lines, line);
    std::string_view name = FindingSeverityName(finding.severity);
    text += Paint(name, finding.severity, colour) + line.substr(name.size()) + "\n";
  }
  return text;
}

std::string FindingsTable(const Preflight& preflight, Colour colour) {
  Table table({{"state"}, {"of"}, {"found"}});
  for (const Finding& finding : preflight.findings) {
    table.AddRow({std::string(FindingSeverityName(finding.severity)), Printable(finding.what),
                  Printable(finding.value)});
  }
  return fmt::format("{}\n\n{}", Printable(preflight.subject),
                     PaintLines(table.ToString(), preflight, colour));
}

// Every line begins with two spaces.
std::string Wrapped(const std::string& text, size_t width) {
  std::istringstream words(text);
  std::string lines, line, word;
  while (words >> word) {
    if (!line.empty() && DisplayWidth(line) + DisplayWidth(word) + 3 > width) {
      lines += "  " + line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
  }
  return line.empty() ? lines : lines + "  " + line + "\n";
}

// The findings of one severity; what holds for several subjects alike is there once.
struct Advised {
  const Finding* finding;
  std::string subjects;  // "/nvme0, /nvme1"
};

bool SaysTheSame(const Finding& one, const Finding& other) {
  return std::tie(one.what, one.value, one.explanation, one.command) ==
         std::tie(other.what, other.value, other.explanation, other.command);
}

std::vector<Advised> AdvisedOf(std::span<const Preflight> preflights, FindingSeverity severity) {
  std::vector<Advised> all;
  for (const Preflight& preflight : preflights) {
    for (const Finding& finding : preflight.findings) {
      if (finding.severity != severity) continue;
      auto same = std::find_if(all.begin(), all.end(), [&](const Advised& advised) {
        return SaysTheSame(*advised.finding, finding);
      });
      same == all.end() ? all.push_back({&finding, preflight.subject})
                        : static_cast<void>(same->subjects += ", " + preflight.subject);
    }
  }
  return all;
}

// A command is never wrapped: it is there to be copied.
std::string Advice(const Advised& advised, Colour colour, size_t width) {
  const Finding& finding = *advised.finding;
  std::string text = fmt::format(
      "\n{}: {}: {}: {}\n", Paint(FindingSeverityName(finding.severity), finding.severity, colour),
      Printable(advised.subjects), Printable(finding.what), Printable(finding.value));
  text += Wrapped(Printable(finding.explanation), width);
  if (!finding.command.empty()) text += "    " + Printable(finding.command) + "\n";
  return text;
}

size_t CountProblems(std::span<const Preflight> preflights) {
  size_t count = 0;
  for (const Preflight& preflight : preflights) {
    count += static_cast<size_t>(std::count_if(
        preflight.findings.begin(), preflight.findings.end(),
        [](const Finding& finding) { return finding.severity == FindingSeverity::kProblem; }));
  }
  return count;
}

}  // namespace

std::string DescribePreflights(std::span<const Preflight> preflights, Colour colour, size_t width) {
  std::string text;
  for (const Preflight& preflight : preflights) {
    text += (text.empty() ? "" : "\n") + FindingsTable(preflight, colour);
  }
  for (FindingSeverity severity : {FindingSeverity::kProblem, FindingSeverity::kNote}) {
    for (const Advised& advised : AdvisedOf(preflights, severity))
      text += Advice(advised, colour, width);
  }
  size_t problems = CountProblems(preflights);
  return text + (problems == 0   ? "\nno problems\n"
                 : problems == 1 ? "\n1 problem\n"
                                 : fmt::format("\n{} problems\n", problems));
}

std::string PreflightsToJson(std::span<const Preflight> preflights) {
  nlohmann::ordered_json subjects = nlohmann::ordered_json::array();
  for (const Preflight& preflight : preflights) {
    nlohmann::ordered_json findings = nlohmann::ordered_json::array();
    for (const Finding& finding : preflight.findings) {
      findings.push_back({{"key", finding.key},
                          {"what", finding.what},
                          {"value", finding.value},
                          {"severity", FindingSeverityName(finding.severity)},
                          {"explanation", finding.explanation},
                          {"command", finding.command}});
    }
    subjects.push_back({{"subject", preflight.subject}, {"findings", findings}});
  }
  nlohmann::ordered_json json = {{"problems", CountProblems(preflights)}, {"subjects", subjects}};
  // A path need not be UTF-8.
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace strata::tools
