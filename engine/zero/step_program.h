// A training step as a trace: which operation touches which block, in order.
//
// Vertical schedule: all micro-batches pass through a unit before the next unit is fetched, so
// gradient accumulation does not multiply the traffic, but the activations of all of them are kept.
// Horizontal: one micro-batch after the other passes through the whole model, so only one's
// activations are kept, but weights and the sums of gradients move once per micro-batch. Gradients
// are summed in the same order in both. Backward recomputes each unit from its saved input, or
// finds its intermediates kept: those of the sublayers that backward comes to first are kept the
// shortest. Of a sublayer in parts (engine/model/units.h) an op takes a tile of one or more parts:
// forward from the first tile to the last, backward from the last to the first. A head of several
// tiles goes through them twice.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "aio/base/status.h"
#include "engine/model/llama.h"
#include "engine/zero/pending_homes.h"
#include "engine/zero/state_layout.h"
#include "prefetch/trace.h"

namespace strata::engine {

// When a step updates units, and from which gradients. Those that it keeps, rounded as the
// optimizer reads them and with the coefficient that clips them, outlive the step: a step of
// another kind applies them. docs/step-plan.md says which kind follows which.
enum class StepKind : uint8_t {
  kInBackward,   // each unit as soon as its gradient is whole; nothing is clipped or kept
  kAfterNorm,    // all units once the global norm is known; nothing is kept
  kSpeculative,  // as in backward, as if nothing were to be clipped; keeps the gradients
  kDeferred,     // applies what the step before kept, each unit before it is first used; keeps
                 // the gradients
  kKeep,   // updates nothing, keeps the gradients: what a deferred step is when there are none
  kFlush,  // applies what the step before kept, and nothing else: no forward, no backward
};
std::string_view StepKindName(StepKind kind);
constexpr bool KeepsGradients(StepKind kind) {
  return kind != StepKind::kInBackward && kind != StepKind::kAfterNorm;
}

// What an op does. The comment lists its operands in order; R, W, RW are the access modes, and
// "W|RW" is W for the first to touch the block in a step (who starts it from zero), RW after that.
// "weights" are those of the unit that has the norm alone, if there is one, and of the tile's
// parts; "gradients" those of the parts, and after part 0 that of the norm's unit. [sum]: of tiles
// that are not the whole sublayer. [last]: of the tile that is the last in the pass.
enum class OpRole : uint8_t {
  kLoadBatch,          // tokens W
  kGatherWeights,      // shard R, whole W
  kEmbeddingForward,   // weights R, tokens R, y W|RW
  kAttentionForward,   // weights R, x R, y W, [kept W]
  kMlpForward,         // weights R, x R, [last: y W], [sum W|RW], [kept W]
  kHead,               // weights R, gradients W|RW, x R, tokens R, d W, loss W|RW
  kHeadStatistics,     // weights R, x R, tokens R, softmax W|RW
  kHeadGradients,      // weights R, gradients W|RW, x R, tokens R, softmax R, sum W|RW,
                       // [last: d W, loss W|RW]
  kMlpBackward,        // weights R, x R, d R (last: RW), [sum W|RW], [kept RW], gradients W|RW
  kAttentionBackward,  // weights R, x R, d RW, [kept RW], gradients W|RW
  kEmbeddingBackward,  // tokens R, d R, gradients W|RW
  kPackGradient,       // fp32 gradient R, what is sent of it W: where that is of 16 bits
  kReduceGradient,     // whole gradient R, shard's gradient W
  kAllReduceGradient,  // whole gradient RW (stages 0 and 1)
  kRoundGradient,      // fp32 gradient R, 16-bit gradient W, norms W|RW
  kNorm,               // gradient R, norms W|RW: where kRoundGradient has not added them
  kClip,               // norms R, clip W
  kUpdate,             // master or remainder RW, m RW, v RW, gradient R, [bf16: weights RW, or
                       // W|RW in format fp32, which does not read them], [clip R]
  kTakeOwnGradient,    // whole gradient R, shard's gradient W (stage 1)
  kTakeOwnWeights,     // whole weights R, shard W (stages 1 and 2)
  kShareWeights,       // updated shard R, whole weights W (stages 1 and 2)
  kReport,             // loss R, norms R
};

struct OpPayload {
  OpRole role = OpRole::kLoadBatch;
  uint32_t unit = 0;      // of ops on one unit's weights, gradient or state
  uint32_t sublayer = 0;  // of forward, backward and head
  Tile tile = {};
  uint32_t micro = 0;
  uint32_t chunk = 0;
  // The op is the first of the step to touch the gradients, norms and loss among its operands.
  bool is_first = false;
  bool keeps_intermediates = false;  // attention and mlp: there is the operand [kept]
  bool is_scaled = false;            // kUpdate: by the clip coefficient, its last operand
  bool is_on_device = false;         // kUpdate: on the compute lane
  DType dtype = DType::kF32;         // of gradients that are packed or reduced: as they are sent
};

struct StepProgram {
  StepKind kind = StepKind::kAfterNorm;
  prefetch::Trace trace;
  std::vector<OpPayload> payloads;  // by OpId
  // StateLayout::blocks[i] is trace block i. The kept gradients follow by unit, then the clip
  // coefficient, where they are kept: so all kinds that keep them have the same persistent blocks
  // in the same order, and those at home in memory the same slots in all their plans. Then what
  // ends with the step.
};

// The order in which micro-batches and units are walked.
enum class Schedule : uint8_t { kVertical, kHorizontal };

constexpr uint32_t kWholeSublayers = ~0u;

struct StepProgramOptions {
  uint32_t num_micro_batches = 1;
  Schedule schedule = Schedule::kVertical;
  // So many attention and mlp sublayers, the last in forward's order, keep their intermediates.
  uint32_t num_keeping_units = 0;
  uint32_t parts_per_op = kWholeSublayers;
  StepKind kind = StepKind::kAfterNorm;
  PendingHomes pending_homes = {};   // of the gradients it keeps; kinds that keep none need none
  // So many units, the first in forward's order, are updated on the compute lane, where the model
  // computes; all others on the cpu lane.
  uint32_t num_device_updates = 0;
  // What gradients travel in between ranks: fp32, or the layout's precision. Then what each rank
  // adds is rounded to it, and their fp32 sum is rounded to it once more, which is what the
  // optimizer reads.
  DType communication = DType::kF32;
};

// The trace of one rank's step. `model` gives workspaces and flops.
StepProgram MakeStepProgram(const StateLayout& layout, const LlamaModel& model,
                            const StepProgramOptions& options);

// Payload of collectives that a rank sends to others in a step, and gets from them: of what is
// gathered or summed all but its own part, of what is all-reduced that twice.
double BytesSent(const StepProgram& program, uint32_t world_size);

}  // namespace strata::engine
