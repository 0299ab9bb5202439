// The blocks of a step's trace: the state's, those of gradients that outlive the step, and what a
// step makes for itself.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "engine/model/llama.h"
#include "engine/zero/state_layout.h"
#include "engine/zero/step_program.h"
#include "prefetch/trace.h"

namespace strata::engine {

// Adds blocks to the trace: the persistent ones at once, in an order that depends on the layout
// and on where pending gradients are at home alone; the others when they are first asked for.
class ProgramBlocks {
 public:
  // All references outlive it.
  ProgramBlocks(const StateLayout& layout, const LlamaModel& model,
                const StepProgramOptions& options, prefetch::Trace* trace);

  prefetch::BlockId Weights(uint32_t unit) const {
    return prefetch::BlockId(layout_.units[unit].weights);
  }
  // A unit's weights from all ranks' shards, for one pass.
  prefetch::BlockId GatheredWeights(uint32_t unit, std::string_view pass);
  prefetch::BlockId Tokens(uint32_t micro);
  prefetch::BlockId Input(uint32_t sublayer, uint32_t micro);
  // The intermediates of an attention or of a tile of an mlp.
  prefetch::BlockId Kept(uint32_t sublayer, const Tile& tile, uint32_t micro);
  // Over the tiles of a sublayer in one pass; and what they know of the softmax.
  prefetch::BlockId Sum(uint32_t sublayer, std::string_view pass, uint32_t micro);
  prefetch::BlockId Softmax(uint32_t micro);
  prefetch::BlockId Upstream(uint32_t micro);
  // fp32 sums over micro-batches: of the whole unit, and of this rank's shard over all ranks.
  prefetch::BlockId WholeGradient(uint32_t unit);
  prefetch::BlockId ReducedGradient(uint32_t unit);
  // What is sent of the whole gradient where it is reduced to shards, in 16 bits.
  prefetch::BlockId SentGradient(uint32_t unit);
  // bf16, of what the reduced gradient is of.
  prefetch::BlockId RoundedGradient(uint32_t unit);
  // What the optimizer reads: the rounded one, or without one the last of fp32.
  prefetch::BlockId FinalGradient(uint32_t unit);
  // This rank's part of a unit's weights ("w") or gradient ("g"), where it has them whole.
  prefetch::BlockId Own(uint32_t unit, std::string_view what, std::string_view purpose);
  prefetch::BlockId Norms();
  prefetch::BlockId Clip();
  prefetch::BlockId Loss();

  const std::string& UnitName(uint32_t unit) const { return layout_.unit_specs[unit].name; }
  uint64_t SizeOf(prefetch::BlockId block) const { return trace_->blocks[Index(block)].size_bytes; }
  // Of a unit's gradient, once it is reduced.
  uint64_t GradientElements(uint32_t unit) const {
    const UnitState& state = layout_.units[unit];
    return layout_.options.shards_gradients() ? state.shard_elements : state.whole_elements;
  }
  bool rounds_gradients() const { return layout_.options.precision != DType::kF32; }
  // Ranks send each other gradients of 16 bits.
  bool packs_gradients() const {
    return layout_.options.world_size > 1 && options_.communication != DType::kF32;
  }

 private:
  void AddState();
  void AddPending();
  // The block of this name, made on first use as one that ends with the step.
  prefetch::BlockId Named(const std::string& name, std::string_view purpose, uint64_t size_bytes);
  void OutliveStep(prefetch::BlockId block, tiering::Tier home);

  const StateLayout& layout_;
  const LlamaModel& model_;
  const StepProgramOptions options_;
  prefetch::Trace* trace_;
  std::map<std::string, prefetch::BlockId> by_name_;
};

}  // namespace strata::engine
