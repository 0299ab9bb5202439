// From a unit's summed gradient to what the optimizer reads, and to the global norm.
#pragma once

#include "engine/zero/internal/program_writer.h"

namespace strata::engine {

// The writer outlives it.
class GradientOps {
 public:
  explicit GradientOps(ProgramWriter& writer)
      : writer_(writer), layout_(writer.layout()), blocks_(writer.blocks()) {}

  // Once the unit's fp32 sum over micro-batches is whole: over ranks, rounded (before that, too,
  // where it travels in 16 bits), its share of the norm.
  void Finish(uint32_t unit);
  // The coefficient, once all units are finished.
  void Clip();

 private:
  void FinishPacked(uint32_t unit);
  void PackGradient(uint32_t unit, prefetch::BlockId sent);
  void AllReduceGradient(uint32_t unit, prefetch::BlockId whole);
  void ReduceGradient(uint32_t unit, prefetch::BlockId whole, prefetch::BlockId shard);
  // Both add the unit's share of the norm.
  void RoundGradient(uint32_t unit, prefetch::BlockId fp32);
  void AddNorm(uint32_t unit, prefetch::BlockId gradient);

  DType communication() const { return writer_.options().communication; }

  ProgramWriter& writer_;
  const StateLayout& layout_;
  ProgramBlocks& blocks_;
};

}  // namespace strata::engine
