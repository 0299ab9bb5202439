// What the manifest of a portable checkpoint says of the state in its files.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "aio/base/status.h"
#include "engine/train/run_record.h"
#include "engine/zero/state_layout.h"

namespace strata::engine {

struct PortableAbout {
  RunRecord record;
  uint32_t ranks = 0;
  std::string units;  // JSON: their names, sizes, and where which tensor of the model is in them
};

// `layout`: of the units.
std::string ToJson(const RunRecord& record, const StateLayout& layout, uint32_t ranks);
std::string UnitsJson(const StateLayout& layout);
// kInvalidArgument when the files hold something else, kDataLoss when it is damaged.
Result<PortableAbout> ParsePortableAbout(std::string_view json);

}  // namespace strata::engine
