// ZeRO's stages as differences in the trace: what each rank holds, and which collective runs when.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>
#include <string>

#include "engine/kernels/cpu_kernels.h"
#include "engine/zero/state_layout.h"
#include "engine/zero/step_program.h"
#include "prefetch/compile.h"
#include "prefetch/verify.h"

namespace strata::engine {
namespace {

using prefetch::AccessMode;
using prefetch::Lane;
using tiering::Tier;

constexpr uint32_t kRanks = 4;

LlamaConfig Model() {
  return {.vocab_size = 320,
          .hidden_size = 128,
          .intermediate_size = 384,
          .num_hidden_layers = 3,
          .num_attention_heads = 4,
          .num_key_value_heads = 4,
          .head_dim = 32,
          .rope_scaling = {}};
}

struct Step {
  std::unique_ptr<Kernels> kernels;
  std::unique_ptr<LlamaModel> model;
  StateLayout layout;
  StepProgram program;

  uint64_t ElementsOf(StateKind kind) const {
    uint64_t elements = 0;
    for (const StateBlock& block : layout.blocks)
      if (block.kind == kind) elements += block.num_elements;
    return elements;
  }
  double CommBytes() const {
    double bytes = 0;
    for (const prefetch::TraceOp& op : program.trace.ops)
      if (op.lane == Lane::kComm) bytes += op.work;
    return bytes;
  }
  uint64_t BytesOfBlocksNamed(const std::string& suffix) const {
    uint64_t bytes = 0;
    for (const prefetch::TraceBlock& block : program.trace.blocks)
      if (block.name.ends_with(suffix)) bytes += block.size_bytes;
    return bytes;
  }
};

Step MakeStep(uint32_t stage, Tier optimizer_home = Tier::kDevice, bool clips = true,
              DType communication = DType::kBf16) {
  Step step;
  step.kernels = MakeCpuKernels(1).value();
  step.model = std::make_unique<LlamaModel>(
      Model(), DType::kBf16, BatchShape{.micro_batch = 1, .seq_len = 16}, step.kernels.get());
  step.layout = MakeStateLayout(UnitsOf(Model()), {.world_size = kRanks,
                                                   .weights_home = Tier::kDevice,
                                                   .optimizer_home = optimizer_home,
                                                   .stage = stage});
  step.program = MakeStepProgram(step.layout, *step.model,
                                 {.kind = clips ? StepKind::kAfterNorm : StepKind::kInBackward,
                                  .num_device_updates = optimizer_home == Tier::kDevice ? 1000u : 0u,
                                  .communication = communication});
  return step;
}

// ZeRO's table: of weights, optimizer state and gradients each rank has all or 1/ranks.
TEST(Stages, ShardWhatZeroSaysTheyShard) {
  const uint64_t parameters = NumParameters(Model());
  auto is_share = [&](uint64_t elements, bool sharded) {
    uint64_t expected = sharded ? parameters / kRanks : parameters;
    EXPECT_GE(elements, expected);
    EXPECT_LT(elements, expected + 64 * 2 * 8);  // padding of each unit
  };
  for (uint32_t stage : {0u, 1u, 2u, 3u}) {
    SCOPED_TRACE(stage);
    Step step = MakeStep(stage);
    is_share(step.ElementsOf(StateKind::kWeights), stage >= 3);
    is_share(step.ElementsOf(StateKind::kM), stage >= 1);
    is_share(step.ElementsOf(StateKind::kV), stage >= 1);
    is_share(step.BytesOfBlocksNamed("/g") / 2, stage >= 2);
  }
}

// Per parameter: an all-reduce is twice what gradients travel in, a reduce-scatter once that, a
// gather of bf16 weights 2 bytes: one after the update in stages 1 and 2, one in each pass in stage
// 3 (the embedding has none in backward, and the head has one pass).
TEST(Stages, MoveTheBytesOfTheirCollectives) {
  for (const DType communication : {DType::kBf16, DType::kF32}) {
    const uint64_t sent = SizeOf(communication);
    SCOPED_TRACE(DTypeName(communication));
    const auto step_of = [&](uint32_t stage) {
      return MakeStep(stage, Tier::kDevice, true, communication);
    };
    // Padded for one rank or for four.
    const auto whole_of = [](const Step& step) {
      uint64_t elements = 0;
      for (const UnitState& unit : step.layout.units) elements += unit.whole_elements;
      return elements;
    };
    const auto expect = [&](uint32_t stage, uint64_t bytes_per_parameter, uint64_t more_bytes) {
      const Step step = step_of(stage);
      EXPECT_EQ(step.CommBytes(),
                static_cast<double>(bytes_per_parameter * whole_of(step) + more_bytes))
          << "stage " << stage;
    };
    EXPECT_EQ(BytesSent(step_of(2).program, kRanks), step_of(2).CommBytes() * 3 / 4);
    expect(0, 2 * sent, 0);
    expect(1, 2 * sent + 2, 0);
    expect(2, sent + 2, 0);
    const Step gathering = step_of(3);
    uint64_t in_backward = 0;
    for (size_t unit = 1; unit + 1 < gathering.layout.units.size(); ++unit)
      in_backward += gathering.layout.units[unit].whole_elements;
    expect(3, sent + 2, 2 * in_backward);
  }
}

TEST(Stages, EveryTraceCompilesAndVerifiesWithEachOffload) {
  for (uint32_t stage : {0u, 1u, 2u, 3u}) {
    for (Tier home : {Tier::kDevice, Tier::kHost, Tier::kNvme}) {
      if (stage == 0 && home != Tier::kDevice) continue;
      for (bool clips : {false, true}) {
        SCOPED_TRACE(std::string("stage ") + std::to_string(stage));
        Step step = MakeStep(stage, home, clips);
        ASSERT_TRUE(step.program.trace.Validate().ok());
        Result<prefetch::StepPlan> plan = prefetch::Compile(
            step.program.trace, {.budgets = {.device_bytes = 64 << 20, .host_bytes = 64 << 20}});
        ASSERT_TRUE(plan.ok()) << plan.status().message();
        EXPECT_TRUE(prefetch::Verify(*plan).ok());
      }
    }
  }
}

// Stages 1 and 2: a rank's part is taken, updated, and then told to the others.
TEST(Stages, UpdatedWeightsAreSharedAfterTheLastUpdateOfTheirUnit) {
  for (uint32_t stage : {1u, 2u}) {
    Step step = MakeStep(stage, Tier::kNvme);
    std::map<uint32_t, size_t> updates;
    std::set<uint32_t> shared;
    for (const OpPayload& payload : step.program.payloads) {
      if (payload.role == OpRole::kUpdate) {
        ++updates[payload.unit];
        EXPECT_FALSE(shared.contains(payload.unit));
      }
      if (payload.role == OpRole::kShareWeights) {
        shared.insert(payload.unit);
        EXPECT_EQ(updates[payload.unit], step.layout.units[payload.unit].chunks.size());
      }
    }
    EXPECT_EQ(shared.size(), step.layout.units.size());
  }
}

}  // namespace
}  // namespace strata::engine
