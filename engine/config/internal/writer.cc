#include "engine/config/internal/writer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>

#include "aio/base/units.h"
#include "engine/config/internal/toml_layer.h"

namespace strata::engine::config_internal {
namespace {

// The shortest text that reads back as the same double, and as a float and not an integer.
std::string FloatText(double value) {
  std::string text = fmt::format("{}", value);
  return text.find_first_of(".en") == std::string::npos ? text + ".0" : text;
}

std::string SizeText(uint64_t bytes) {
  constexpr std::array<std::string_view, 5> kSuffixes = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t suffix = 0;
  while (bytes != 0 && bytes % 1024 == 0 && suffix + 1 < kSuffixes.size()) {
    bytes /= 1024;
    ++suffix;
  }
  return fmt::format("\"{}{}\"", bytes, kSuffixes[suffix]);
}

}  // namespace

void Writer::Section(std::string_view name) {
  if (!text_.empty()) text_ += '\n';
  text_ += fmt::format("[{}]\n", name);
}

bool Writer::OptionalSection(std::string_view name, bool present) {
  if (present) Section(name);
  return present;
}

void Writer::NumberMap(std::string_view section, std::map<std::string, double>& values,
                       NumberRange /*range*/) {
  if (values.empty()) return;
  Section(section);
  for (const auto& [key, value] : values) Line(QuoteToml(key), FloatText(value));
}

void Writer::Flag(std::string_view key, bool& value) { Line(key, value ? "true" : "false"); }

void Writer::Number(std::string_view key, double& value, NumberRange /*range*/) {
  Line(key, FloatText(value));
}

void Writer::NumberPair(std::string_view key, std::array<double, 2>& value, NumberRange /*range*/) {
  Line(key, fmt::format("[{}, {}]", FloatText(value[0]), FloatText(value[1])));
}

void Writer::IntegerField(std::string_view key, uint64_t& value, IntegerRange /*range*/) {
  Line(key, fmt::format("{}", value));
}

void Writer::OptionalSize(std::string_view key, std::optional<uint64_t>& bytes,
                          IntegerRange /*range*/, std::string_view none_word) {
  Line(key, bytes ? SizeText(*bytes) : QuoteToml(none_word));
}

void Writer::OptionalInteger(std::string_view key, std::optional<uint64_t>& value,
                             IntegerRange /*range*/, std::string_view none_word) {
  Line(key, value ? fmt::format("{}", *value) : QuoteToml(none_word));
}

void Writer::OptionalNumber(std::string_view key, std::optional<double>& value,
                            NumberRange /*range*/, std::string_view none_word) {
  Line(key, value ? FloatText(*value) : QuoteToml(none_word));
}

void Writer::Size(std::string_view key, uint64_t& bytes, IntegerRange /*range*/) {
  Line(key, SizeText(bytes));
}

void Writer::ChoiceField(std::string_view key, size_t& index,
                         std::span<const std::string_view> names) {
  Line(key, QuoteToml(names[index]));
}

void Writer::Device(std::string_view key, DeviceChoice& device) {
  Line(key, QuoteToml(ToText(device)));
}

void Writer::Path(std::string_view key, std::string& path, PathBase /*base*/) {
  if (!path.empty()) Line(key, QuoteToml(path));
}

void Writer::PathList(std::string_view key, std::vector<std::string>& paths, PathBase base) {
  if (paths.size() == 1) return Path(key, paths[0], base);
  if (paths.empty()) return;
  std::vector<std::string> quoted;
  for (const std::string& path : paths) quoted.push_back(QuoteToml(path));
  Line(key, fmt::format("[{}]", fmt::join(quoted, ", ")));
}

void Writer::Line(std::string_view key, std::string_view value) {
  text_ += fmt::format("{} = {}\n", key, value);
}

}  // namespace strata::engine::config_internal
