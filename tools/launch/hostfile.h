// Hostfiles and node filters as DeepSpeed's launcher reads them:
//
//   worker-0 slots=8      # a comment
//   worker-1 slots=8
//
//   --include worker-0@worker-1:0,2   all slots of worker-0, two of worker-1
//   --exclude worker-1:0              everything but slot 0 of worker-1
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "aio/base/status.h"
#include "tools/launch/layout.h"

namespace strata::launch {

// `name` is what errors call it, with the line: "hostfile:3: ...".
Result<Layout> ParseHostfile(std::string_view text, const std::string& name);

Result<Layout> ReadHostfile(const std::string& path);

enum class Filter { kInclude, kExclude };

// The nodes and slots that stay, in the hostfile's order. `spec` is NODE[:SLOT,SLOT...]@NODE...
Result<Layout> FilterLayout(const Layout& layout, Filter filter, std::string_view spec);

// The first nodes, and the first slots of each. An error where there are fewer.
Result<Layout> Shrink(const Layout& layout, std::optional<uint32_t> num_nodes,
                      std::optional<uint32_t> num_slots);

}  // namespace strata::launch
