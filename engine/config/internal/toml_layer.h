// The parsed text of the config file, or of one override on top of it.
#pragma once

#include <string>
#include <string_view>

#include "aio/base/status.h"
#include "engine/config/internal/toml.h"

namespace strata::engine::config_internal {

struct TomlLayer {
  enum class Kind { kFile, kOverride };

  Kind kind = Kind::kFile;
  std::string name;  // "dir/file.toml", or "--set a.b=c"
  toml::table table;

  // "dir/file.toml:3:5", or just the override.
  std::string Where(const toml::source_region& region) const;
};

Result<TomlLayer> ParseFileLayer(std::string_view text, const std::string& source_name);
// "a.b=c": c is a TOML value, or else a string as it stands.
Result<TomlLayer> ParseOverrideLayer(const std::string& text);

// A double-quoted TOML string.
std::string QuoteToml(std::string_view text);

}  // namespace strata::engine::config_internal
