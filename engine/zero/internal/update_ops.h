// The optimizer's part of a step.
#pragma once

#include <string_view>

#include "engine/zero/internal/program_writer.h"

namespace strata::engine {

// The writer outlives it.
class UpdateOps {
 public:
  explicit UpdateOps(ProgramWriter& writer)
      : writer_(writer), layout_(writer.layout()), blocks_(writer.blocks()) {}

  // Stages 1 and 2: on the rank's own part, which is then shared.
  void Update(uint32_t unit);
  // From the last unit to the first: the next forward pass then finds the first ones in memory.
  void UpdateAll();

 private:
  // Weights are whole on every rank, and each rank updates its part of them.
  bool updates_part() const {
    return layout_.options.shards_optimizer() && !layout_.options.shards_weights();
  }
  // This rank's part of `whole`, in a block of its own.
  prefetch::BlockId TakeOwn(uint32_t unit, std::string_view what, prefetch::BlockId whole,
                            OpRole role);
  void ShareWeights(uint32_t unit, prefetch::BlockId own);
  void UpdateShard(uint32_t unit, prefetch::BlockId weights, prefetch::BlockId gradient);
  // What passes between memory and the processor.
  double UpdateBytes(const UnitState::Chunk& chunk) const;

  ProgramWriter& writer_;
  const StateLayout& layout_;
  ProgramBlocks& blocks_;
};

}  // namespace strata::engine
