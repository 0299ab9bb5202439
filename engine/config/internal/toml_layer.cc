#include "engine/config/internal/toml_layer.h"

#include <fmt/format.h>

#include <exception>

namespace strata::engine::config_internal {
namespace {

// The one place where TOML++ may throw.
Result<toml::table> Parse(std::string_view text, const std::string& name, TomlLayer::Kind kind) {
  try {
    return toml::parse(text, std::string_view(name));
  } catch (const toml::parse_error& error) {
    TomlLayer layer = {.kind = kind, .name = name, .table = {}};
    return InvalidArgument(
        fmt::format("{}: not valid TOML: {}", layer.Where(error.source()), error.description()));
  } catch (const std::exception& error) {
    return InvalidArgument(fmt::format("{}: not valid TOML: {}", name, error.what()));
  }
}

}  // namespace

std::string TomlLayer::Where(const toml::source_region& region) const {
  if (kind == Kind::kOverride || !region.begin) return name;
  return fmt::format("{}:{}:{}", name, region.begin.line, region.begin.column);
}

Result<TomlLayer> ParseFileLayer(std::string_view text, const std::string& source_name) {
  constexpr auto kKind = TomlLayer::Kind::kFile;
  STRATA_ASSIGN_OR_RETURN(toml::table table, Parse(text, source_name, kKind));
  return TomlLayer{.kind = kKind, .name = source_name, .table = std::move(table)};
}

Result<TomlLayer> ParseOverrideLayer(const std::string& text) {
  constexpr auto kKind = TomlLayer::Kind::kOverride;
  std::string name = "--set " + text;
  size_t equals = text.find('=');
  if (equals == std::string::npos || text.find('\n') != std::string::npos)
    return InvalidArgument(name + ": write section.key=value on one line");
  Result<toml::table> table = Parse(text, name, kKind);
  if (!table.ok()) {
    std::string quoted = text.substr(0, equals) + "=" + QuoteToml(text.substr(equals + 1));
    table = Parse(quoted, name, kKind);
  }
  if (!table.ok()) return table.status();
  return TomlLayer{.kind = kKind, .name = std::move(name), .table = std::move(*table)};
}

std::string QuoteToml(std::string_view text) {
  std::string quoted = "\"";
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') quoted += '\\';
    if (byte < 0x20 || byte == 0x7f)
      quoted += fmt::format("\\u{:04x}", byte);
    else
      quoted += c;
  }
  return quoted + '"';
}

}  // namespace strata::engine::config_internal
