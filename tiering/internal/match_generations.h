// From what manifests say to what a run knows: its blocks, by name.
#pragma once

#include <vector>

#include "aio/base/status.h"
#include "tiering/block_store.h"
#include "tiering/internal/extent_store.h"
#include "tiering/internal/extent_table.h"
#include "tiering/internal/manifest.h"

namespace strata::tiering {

// kFailedPrecondition, naming the block, when a generation and the run do not have the same durable
// blocks of the same sizes; a read-only run may know fewer. kDataLoss when a block lies where
// `extents` has none.
Result<std::vector<GenerationRecord>> MatchGenerations(const std::vector<Manifest>& manifests,
                                                       const ExtentTable& extents,
                                                       const std::vector<BlockDescription>& blocks,
                                                       bool read_only);

}  // namespace strata::tiering
