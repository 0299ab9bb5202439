// JSON of files that people hand us: a duplicate key, which nlohmann::json lets pass, is an error.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "aio/base/status.h"

namespace strata::engine {

// kInvalidArgument "source: line 1 column 17: ..." for what is not JSON, for duplicate keys and for
// nesting deeper than any file of ours has.
Result<nlohmann::json> ParseStrictJson(std::string_view text, std::string_view source);

}  // namespace strata::engine
