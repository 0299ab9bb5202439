// Replacing values in TOML text by position.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "engine/config/internal/toml.h"

namespace strata::engine::config_internal {

// Where a position of the parser (lines and code points, from 1) is in the text it parsed.
size_t OffsetOf(std::string_view text, const toml::source_position& position);

struct Edit {
  size_t offset = 0;
  size_t length = 0;  // 0: an insertion
  std::string replacement;
};

// Edits do not overlap. Insertions at one place stay in their order.
std::string Apply(std::string_view text, std::vector<Edit> edits);

// What ends the lines of the text: that of its first line, or "\n".
std::string_view LineEndOf(std::string_view text);

// The offset behind the end of the line that `offset` is in; the text's size if it has no end.
size_t BehindLine(std::string_view text, size_t offset);

}  // namespace strata::engine::config_internal
