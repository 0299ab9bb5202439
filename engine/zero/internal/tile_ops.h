// Forward and backward ops of a sublayer, tile by tile.
#pragma once

#include <string_view>
#include <vector>

#include "engine/zero/internal/program_writer.h"

namespace strata::engine {

// A tile of a sublayer, as its ops see it.
struct Tiled {
  uint32_t sublayer = 0;
  Tile tile;
  bool is_whole = true;  // the sublayer's only one
  bool is_first = true;  // in this pass
  bool is_last = true;
  std::vector<prefetch::Access> weights = {};  // once fetched
};

// The writer outlives it.
class TileOps {
 public:
  explicit TileOps(ProgramWriter& writer)
      : writer_(writer), layout_(writer.layout()), blocks_(writer.blocks()) {}

  // In the order of the pass.
  std::vector<Tiled> Of(uint32_t sublayer, Pass pass) const;
  // Sets the tile's weights. The norm, where it is a unit of its own, is fetched once in a pass.
  void Fetch(std::string_view fetched_for, Tiled& tiled);

  // Whose gradients a tile adds to. The norm's is known once all parts have given back theirs.
  std::vector<uint32_t> GradientUnits(const Tiled& tiled) const;
  // Appends them, and says whether they are new in the step: all are, or none.
  bool AppendGradients(const Tiled& tiled, std::vector<prefetch::Access>& accesses);

  // W for the first tile of a pass, RW for the others.
  static prefetch::Access Through(const Tiled& tiled, prefetch::BlockId block) {
    return {block,
            tiled.is_first ? prefetch::AccessMode::kWrite : prefetch::AccessMode::kReadWrite};
  }

  // Of the attention and mlp sublayers, which lie between embedding and head, the last ones keep
  // their intermediates.
  bool Keeps(uint32_t sublayer) const;

  // An op on the compute lane; `payload` has its role and what it is the first to touch.
  void Add(std::string_view verb, Pass pass, const Tiled& tiled, uint32_t micro,
           std::vector<prefetch::Access> accesses, OpPayload payload);

 private:
  const Sublayer& SublayerOf(const Tiled& tiled) const { return layout_.sublayers[tiled.sublayer]; }
  std::vector<uint32_t> PartUnits(const Tiled& tiled) const;
  // The block that holds the unit's whole weights for one pass: its shard when there is one rank.
  prefetch::BlockId WeightsFor(uint32_t unit, std::string_view fetched_for);
  void Gather(uint32_t unit, std::string_view fetched_for);
  double Work(Pass pass, const Tiled& tiled, Intermediates intermediates) const;

  ProgramWriter& writer_;
  const StateLayout& layout_;
  ProgramBlocks& blocks_;
};

}  // namespace strata::engine
