#include "tiering/internal/match_generations.h"

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "aio/base/units.h"
#include "tiering/arena.h"

namespace strata::tiering {
namespace {

using BlockIndex = std::unordered_map<std::string_view, size_t>;

BlockIndex IndexOf(const std::vector<BlockDescription>& blocks) {
  BlockIndex index;
  for (size_t i = 0; i < blocks.size(); ++i)
    if (blocks[i].durability == Durability::kDurable) index.emplace(blocks[i].name, i);
  return index;
}

Status Mismatch(uint64_t generation, const std::string& what) {
  return FailedPrecondition(
      fmt::format("generation {} does not fit this run: {}; resume with the model it was made with",
                  generation, what));
}

// Both ways: what a generation holds and the run does not know would be lost with the next commit.
Status MatchBlocks(const Manifest& manifest, const std::vector<BlockDescription>& blocks,
                   bool read_only) {
  BlockIndex missing = IndexOf(blocks);
  for (const BlockRecord& record : manifest.blocks) {
    auto found = missing.find(record.name);
    if (found == missing.end() && read_only) continue;
    if (found == missing.end())
      return Mismatch(manifest.generation,
                      fmt::format("its block '{}' is not one of the run's", record.name));
    uint64_t size_bytes = blocks[found->second].size_bytes;
    if (size_bytes != record.size_bytes) {
      return Mismatch(manifest.generation,
                      fmt::format("its block '{}' has {} bytes, the run's has {}", record.name,
                                  record.size_bytes, size_bytes));
    }
    missing.erase(found);
  }
  if (missing.empty()) return OkStatus();
  return Mismatch(manifest.generation,
                  fmt::format("the run's block '{}' is not in it", missing.begin()->first));
}

Result<GenerationRecord> RecordOf(const Manifest& manifest, const ExtentTable& extents,
                                  const std::vector<BlockDescription>& blocks) {
  GenerationRecord record;
  record.about = {manifest.generation, manifest.metadata, manifest.pinned};
  record.versions.resize(blocks.size());
  BlockIndex index = IndexOf(blocks);
  for (const BlockRecord& block : manifest.blocks) {
    auto found = index.find(block.name);
    if (!block.written || found == index.end()) continue;
    auto extent = extents.Find(
        {block.directory, block.offset_bytes, RoundUp(block.size_bytes, kSlotAlignmentBytes)});
    if (!extent) {
      return DataLoss(fmt::format("generation {}: block '{}' lies where no extent is",
                                  manifest.generation, block.name));
    }
    record.versions[found->second] = {*extent, block.checksum, manifest.generation};
  }
  return record;
}

}  // namespace

Result<std::vector<GenerationRecord>> MatchGenerations(const std::vector<Manifest>& manifests,
                                                       const ExtentTable& extents,
                                                       const std::vector<BlockDescription>& blocks,
                                                       bool read_only) {
  std::vector<GenerationRecord> records;
  for (const Manifest& manifest : manifests) {
    STRATA_RETURN_IF_ERROR(MatchBlocks(manifest, blocks, read_only));
    STRATA_ASSIGN_OR_RETURN(GenerationRecord record, RecordOf(manifest, extents, blocks));
    records.push_back(std::move(record));
  }
  return records;
}

}  // namespace strata::tiering
