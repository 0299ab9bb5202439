#include "aio/internal/attribute.h"

#include <algorithm>
#include <charconv>

#include "aio/base/units.h"
#include "aio/file.h"

namespace strata::aio {
namespace {

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::vector<std::string> SplitAt(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    size_t end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::optional<NumberRange> ParseRange(std::string_view text) {
  size_t dash = text.find('-');
  std::optional<uint64_t> first = ParseNumber(text.substr(0, dash));
  std::optional<uint64_t> last =
      dash == std::string_view::npos ? first : ParseNumber(text.substr(dash + 1));
  if (!first || !last || *first > *last) return std::nullopt;
  return NumberRange{*first, *last};
}

}  // namespace

std::optional<std::string> ReadAttribute(const std::string& path) {
  Result<std::string> text = ReadSmallFile(path, 4_MiB);
  if (!text.ok()) return std::nullopt;
  while (!text->empty() && IsSpace(text->back())) text->pop_back();
  return *text;
}

std::optional<uint64_t> ParseNumber(std::string_view text) {
  uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::optional<uint64_t> ReadNumber(const std::string& path) {
  std::optional<std::string> text = ReadAttribute(path);
  return text ? ParseNumber(*text) : std::nullopt;
}

std::vector<std::string> SplitWords(std::string_view text) {
  std::vector<std::string> words;
  while (true) {
    auto begin = std::find_if_not(text.begin(), text.end(), IsSpace);
    if (begin == text.end()) return words;
    auto end = std::find_if(begin, text.end(), IsSpace);
    words.emplace_back(begin, end);
    text.remove_prefix(static_cast<size_t>(end - text.begin()));
  }
}

std::vector<std::string> SplitLines(std::string_view text) { return SplitAt(text, '\n'); }

std::optional<std::string> ChosenWord(std::string_view text) {
  for (const std::string& word : SplitWords(text)) {
    if (word.size() > 2 && word.front() == '[' && word.back() == ']')
      return word.substr(1, word.size() - 2);
  }
  return std::nullopt;
}

std::optional<std::string> FieldOf(std::string_view text, std::string_view name) {
  for (const std::string& line : SplitLines(text)) {
    if (!line.starts_with(name)) continue;
    auto begin =
        std::find_if_not(line.begin() + static_cast<ptrdiff_t>(name.size()), line.end(), IsSpace);
    return std::string(begin, line.end());
  }
  return std::nullopt;
}

std::optional<std::vector<NumberRange>> ParseRanges(std::string_view text) {
  std::vector<NumberRange> ranges;
  for (const std::string& part : SplitAt(text, ',')) {
    std::optional<NumberRange> range = ParseRange(part);
    if (!range) return std::nullopt;
    ranges.push_back(*range);
  }
  return ranges;
}

}  // namespace strata::aio
