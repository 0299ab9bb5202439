#include "engine/zero/step_program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <tuple>

#include "engine/kernels/cpu_kernels.h"
#include "engine/zero/state_layout.h"
#include "prefetch/compile.h"
#include "prefetch/verify.h"

namespace strata::engine {
namespace {

using prefetch::AccessMode;
using prefetch::Lane;
using prefetch::TraceOp;

LlamaConfig TinyLlama(bool tied = false) {
  return {.vocab_size = 300,
          .hidden_size = 64,
          .intermediate_size = 160,
          .num_hidden_layers = 2,
          .num_attention_heads = 4,
          .num_key_value_heads = 2,
          .head_dim = 16,
          .rope_scaling = {},
          .tie_word_embeddings = tied};
}

// Whether the op gives the unit's share of the norm: the last op before its gradient is applied.
bool IsNorm(const OpPayload& payload) {
  return payload.role == OpRole::kRoundGradient || payload.role == OpRole::kNorm;
}

struct Case {
  DType precision = DType::kBf16;
  StateFormat format = StateFormat::kSplit;
  uint32_t world_size = 1;
  StepProgramOptions options;
  bool tied = false;
  uint64_t part_elements = kUncut;
  uint64_t vocab_size = 300;
};

struct Built {
  std::unique_ptr<Kernels> kernels;
  std::unique_ptr<LlamaModel> model;
  StateLayout layout;
  StepProgram program;
};

Built Build(const Case& c) {
  Built built;
  LlamaConfig config = TinyLlama(c.tied);
  config.vocab_size = c.vocab_size;
  built.kernels = MakeCpuKernels(1).value();
  built.model =
      std::make_unique<LlamaModel>(config, c.precision, BatchShape{.micro_batch = 2, .seq_len = 32},
                                   built.kernels.get(), c.part_elements);
  built.layout =
      MakeStateLayout(UnitsOf(config, c.part_elements),
                      {.precision = c.precision, .format = c.format, .world_size = c.world_size});
  built.program = MakeStepProgram(built.layout, *built.model, c.options);
  return built;
}

// Embedding and head in 3 parts, the mlp in 3.
constexpr uint64_t kPartElements = 64 * 128;

// The same in parts: an op takes one, two or all of them.
void AddTiled(std::vector<Case>& cases) {
  const size_t whole = cases.size();
  for (size_t i = 0; i < whole; ++i) {
    cases.push_back(cases[i]);
    cases.back().part_elements = kPartElements;
    cases.back().options.parts_per_op = i % 3 == 2 ? kWholeSublayers : 1 + i % 3;
  }
}

std::vector<Case> AllCases() {
  std::vector<Case> cases;
  for (auto [precision, format] :
       {std::pair(DType::kBf16, StateFormat::kFp32), std::pair(DType::kBf16, StateFormat::kSplit),
        std::pair(DType::kBf16, StateFormat::kInt8), std::pair(DType::kF32, StateFormat::kFp32)}) {
    for (uint32_t world : {1u, 4u}) {
      for (uint32_t micro : {1u, 3u}) {
        for (int bits = 0; bits < 8; ++bits) {
          StepProgramOptions options{
              .num_micro_batches = micro,
              .kind = bits & 1 ? StepKind::kAfterNorm : StepKind::kInBackward,
              .num_device_updates = bits & 2 ? 1000u : 0u};
          cases.push_back({precision, format, world, options, (bits & 4) != 0});
          cases.back().options.num_keeping_units = (bits & 3) == 0 ? 4 : bits & 1;
          if (micro == 1) continue;
          cases.back().options.schedule = Schedule::kHorizontal;
          cases.push_back({precision, format, world, options, (bits & 4) != 0});
        }
      }
    }
  }
  AddTiled(cases);
  return cases;
}

TEST(StateLayout, ShardsOfAllRanksCoverEveryUnitOnce) {
  for (uint64_t elements : {64ull, 100ull, 4096ull, 1234567ull}) {
    for (uint32_t world : {1u, 2u, 3u, 8u}) {
      uint64_t shard = ShardElements(elements, world);
      EXPECT_GE(shard * world, elements);
      EXPECT_EQ(shard % 64, 0u);
      EXPECT_LT(shard * world - elements, 64u * world);
    }
  }
}

TEST(StateLayout, ChunksCoverEachShardOnceAndInOrder) {
  LlamaConfig large = TinyLlama();
  large.hidden_size = 1024;
  large.intermediate_size = 4096;
  large.head_dim = 256;
  StateLayout layout = MakeStateLayout(UnitsOf(large), {});
  for (const UnitState& unit : layout.units) {
    uint64_t next = 0;
    for (const UnitState::Chunk& chunk : unit.chunks) {
      EXPECT_EQ(chunk.first_element, next);
      EXPECT_EQ(layout.blocks[chunk.m].num_elements, chunk.num_elements);
      next += chunk.num_elements;
    }
    EXPECT_EQ(next, unit.shard_elements);
  }
}

TEST(StateLayout, Bf16TakesFourteenBytesPerElementAndFp32Twelve) {
  StateLayout bf16 = MakeStateLayout(UnitsOf(TinyLlama()), {.precision = DType::kBf16});
  EXPECT_EQ(bf16.size_bytes(), bf16.num_shard_elements() * 14);
  StateLayout fp32 = MakeStateLayout(UnitsOf(TinyLlama()), {.precision = DType::kF32});
  EXPECT_EQ(fp32.size_bytes(), fp32.num_shard_elements() * 12);
}

TEST(StateLayout, SplitTakesTwelveBytesPerElementAndInt8SixAndItsScales) {
  StateLayout split = MakeStateLayout(UnitsOf(TinyLlama()), {.format = StateFormat::kSplit});
  EXPECT_EQ(split.size_bytes(), split.num_shard_elements() * 12);
  StateLayout int8 = MakeStateLayout(UnitsOf(TinyLlama()), {.format = StateFormat::kInt8});
  EXPECT_EQ(int8.size_bytes(),
            int8.num_shard_elements() * 6 + 2 * int8.num_shard_elements() / kScaledElements);
}

// Or a scale would belong to two tensors, two chunks or two ranks.
TEST(StateLayout, TensorsChunksAndShardsStartAtBlocksOfInt8) {
  LlamaConfig odd = TinyLlama();
  odd.hidden_size = 4 * 19;
  odd.head_dim = 19;
  for (uint32_t world : {1u, 3u}) {
    StateLayout layout =
        MakeStateLayout(UnitsOf(odd), {.format = StateFormat::kInt8, .world_size = world});
    for (const UnitSpec& unit : layout.unit_specs) {
      for (const TensorSpec& tensor : unit.tensors) {
        EXPECT_EQ(tensor.offset_elements % kScaledElements, 0u) << tensor.name;
      }
    }
    for (const UnitState& unit : layout.units) {
      EXPECT_EQ(unit.shard_elements % kScaledElements, 0u);
      for (const UnitState::Chunk& chunk : unit.chunks) {
        EXPECT_EQ(chunk.first_element % kScaledElements, 0u);
      }
    }
  }
}

// Budgets must not show in names or sizes, or a checkpoint would not resume under others.
TEST(StateLayout, HomesDoNotChangeNamesOrSizes) {
  StateLayout nvme = MakeStateLayout(UnitsOf(TinyLlama()), {});
  StateLayout device = MakeStateLayout(
      UnitsOf(TinyLlama()),
      {.weights_home = tiering::Tier::kDevice, .optimizer_home = tiering::Tier::kDevice});
  ASSERT_EQ(nvme.blocks.size(), device.blocks.size());
  for (size_t i = 0; i < nvme.blocks.size(); ++i) {
    EXPECT_EQ(nvme.blocks[i].name, device.blocks[i].name);
    EXPECT_EQ(nvme.blocks[i].size_bytes(), device.blocks[i].size_bytes());
  }
}

TEST(StepProgram, IsAValidTraceThatCompilesAndVerifiesInEveryMode) {
  for (const Case& c : AllCases()) {
    Built built = Build(c);
    ASSERT_TRUE(built.program.trace.Validate().ok()) << built.program.trace.Validate().ToString();
    ASSERT_EQ(built.program.payloads.size(), built.program.trace.ops.size());
    auto plan = prefetch::Compile(built.program.trace,
                                  {.budgets = {.device_bytes = 64 << 20, .host_bytes = 64 << 20}});
    ASSERT_TRUE(plan.ok()) << plan.status().ToString();
    EXPECT_TRUE(prefetch::Verify(*plan).ok()) << prefetch::Verify(*plan).ToString();
  }
}

TEST(StepProgram, UpdatesEveryChunkExactlyOnceAndNeverBeforeItsGradientIsWhole) {
  for (const Case& c : AllCases()) {
    Built built = Build(c);
    std::set<std::pair<uint32_t, uint32_t>> updated;
    std::set<uint32_t> closed;  // units whose gradient nobody adds to any more
    for (size_t i = 0; i < built.program.payloads.size(); ++i) {
      const OpPayload& payload = built.program.payloads[i];
      if (IsNorm(payload)) closed.insert(payload.unit);
      if (payload.role == OpRole::kUpdate) {
        EXPECT_TRUE(closed.contains(payload.unit));
        EXPECT_TRUE(updated.insert({payload.unit, payload.chunk}).second);
      }
      if (c.tied && (payload.role == OpRole::kHead || payload.role == OpRole::kHeadGradients)) {
        EXPECT_FALSE(closed.contains(0));
      }
    }
    size_t chunks = 0;
    for (const UnitState& unit : built.layout.units) chunks += unit.chunks.size();
    EXPECT_EQ(updated.size(), chunks);
  }
}

// The weights are half of the master in all formats but fp32, which writes them without a look.
TEST(StepProgram, AnUpdateReadsTheWeightsThatAreHalfOfTheMaster) {
  for (const Case& c : AllCases()) {
    Built built = Build(c);
    for (size_t i = 0; i < built.program.payloads.size(); ++i) {
      const OpPayload& payload = built.program.payloads[i];
      if (payload.role != OpRole::kUpdate) continue;
      const TraceOp& op = built.program.trace.ops[i];
      EXPECT_EQ(op.accesses.size(), 4u + (c.precision == DType::kBf16 ? 1 : 0) +
                                        (c.options.kind == StepKind::kAfterNorm ? 1 : 0));
      if (c.precision == DType::kF32) continue;
      bool only_writes = c.format == StateFormat::kFp32 && payload.chunk == 0;
      EXPECT_EQ(op.accesses[4].mode, only_writes ? AccessMode::kWrite : AccessMode::kReadWrite);
      EXPECT_EQ(built.program.trace.blocks[Index(op.accesses[4].block)].name,
                built.layout.unit_specs[payload.unit].name + "/w");
    }
  }
}

TEST(StepProgram, WithClippingNoUpdateComesBeforeTheGlobalNorm) {
  Built built = Build({.options = {.num_micro_batches = 2, .kind = StepKind::kAfterNorm}});
  bool clipped = false;
  for (const OpPayload& payload : built.program.payloads) {
    if (payload.role == OpRole::kClip) clipped = true;
    if (payload.role == OpRole::kUpdate) {
      EXPECT_TRUE(clipped);
    }
    if (IsNorm(payload)) {
      EXPECT_FALSE(clipped);
    }
  }
  EXPECT_TRUE(clipped);
}

const std::vector<StepKind> kKeepingKinds = {StepKind::kSpeculative, StepKind::kDeferred,
                                             StepKind::kKeep, StepKind::kFlush};

// What memory has room for of the kept gradients: none of them, some units', all.
const std::vector<PendingRoom> kPendingRooms = {{},
                                                {.host_bytes = 1 << 20},
                                                {.device_bytes = 1 << 20},
                                                {.device_bytes = 64 << 10, .host_bytes = 64 << 10}};

// Memory homes, so that there is something to place.
Built BuildKind(StepKind kind, const PendingRoom& room, const Case& c) {
  Built built = Build(c);
  for (StateBlock& block : built.layout.blocks)
    block.home = block.kind == StateKind::kWeights ? tiering::Tier::kDevice : tiering::Tier::kHost;
  StepProgramOptions options = c.options;
  options.kind = kind;
  options.pending_homes = PlacePending(room, built.layout);
  built.program = MakeStepProgram(built.layout, *built.model, options);
  return built;
}

// A run changes between these kinds, and what is at home in memory stays where it is.
TEST(StepProgram, AllKindsThatKeepGradientsHaveTheSameHomesInTheSameSlots) {
  for (const Case& c : AllCases()) {
    if (c.options.num_micro_batches == 1 || c.world_size > 1) continue;
    for (const PendingRoom& room : kPendingRooms) {
      std::map<std::string, prefetch::Slot> expected;
      for (StepKind kind : kKeepingKinds) {
        Built built = BuildKind(kind, room, c);
        ASSERT_TRUE(built.program.trace.Validate().ok())
            << built.program.trace.Validate().ToString();
        auto plan = prefetch::Compile(
            built.program.trace, {.budgets = {.device_bytes = 64 << 20, .host_bytes = 64 << 20}});
        ASSERT_TRUE(plan.ok()) << plan.status().ToString();
        EXPECT_TRUE(prefetch::Verify(*plan).ok()) << prefetch::Verify(*plan).ToString();
        std::map<std::string, prefetch::Slot> homes;
        for (const prefetch::Resident& resident : plan->residents)
          if (resident.is_home)
            homes[plan->trace.blocks[Index(resident.block)].name] = resident.slot;
        EXPECT_GT(homes.size(), built.layout.blocks.size());
        if (expected.empty()) expected = homes;
        EXPECT_EQ(homes, expected) << StepKindName(kind);
      }
    }
  }
}

// What is left out or added to a step of each kind; the order is that of the other tests.
TEST(StepProgram, EachKindUpdatesWhenItSays) {
  for (StepKind kind : kKeepingKinds) {
    Built built = BuildKind(kind, kPendingRooms.back(), {.options = {.num_micro_batches = 2}});
    std::set<uint32_t> updated;
    std::set<uint32_t> used;  // in forward
    std::set<uint32_t> closed;
    for (const OpPayload& payload : built.program.payloads) {
      bool is_forward = payload.role == OpRole::kEmbeddingForward ||
                        payload.role == OpRole::kAttentionForward ||
                        payload.role == OpRole::kMlpForward || payload.role == OpRole::kHead;
      // Uncut, sublayers and units are the same.
      if (is_forward) used.insert(payload.sublayer);
      if (is_forward && kind == StepKind::kDeferred) {
        EXPECT_TRUE(updated.contains(payload.sublayer));
      }
      if (IsNorm(payload)) closed.insert(payload.unit);
      if (payload.role != OpRole::kUpdate) continue;
      updated.insert(payload.unit);
      EXPECT_EQ(payload.is_scaled, kind != StepKind::kSpeculative);
      if (kind == StepKind::kSpeculative) {
        EXPECT_TRUE(closed.contains(payload.unit));
      }
      if (kind == StepKind::kDeferred) {
        EXPECT_FALSE(used.contains(payload.unit));
      }
    }
    EXPECT_EQ(updated.size(), kind == StepKind::kKeep ? 0 : built.layout.units.size());
    EXPECT_EQ(used.size(), kind == StepKind::kFlush ? 0 : built.layout.units.size());
  }
}

// The last units in forward's order are the first in backward's: theirs are kept the shortest.
TEST(StepProgram, TheLastUnitsKeepTheirIntermediatesFromForwardToBackward) {
  Built recomputing = Build({.options = {.num_micro_batches = 2}});
  Built keeping = Build({.options = {.num_micro_batches = 2, .num_keeping_units = 3}});
  ASSERT_EQ(keeping.program.trace.ops.size(), recomputing.program.trace.ops.size());
  std::map<std::string, std::vector<AccessMode>> uses;  // by block
  for (size_t i = 0; i < keeping.program.trace.ops.size(); ++i) {
    const OpPayload& payload = keeping.program.payloads[i];
    const TraceOp& op = keeping.program.trace.ops[i];
    bool is_layer = payload.role == OpRole::kAttentionForward ||
                    payload.role == OpRole::kMlpForward || payload.role == OpRole::kMlpBackward ||
                    payload.role == OpRole::kAttentionBackward;
    EXPECT_EQ(payload.keeps_intermediates, is_layer && payload.sublayer >= 2) << op.name;
    bool is_backward =
        payload.role == OpRole::kMlpBackward || payload.role == OpRole::kAttentionBackward;
    if (payload.keeps_intermediates) {
      const prefetch::Access& kept = op.accesses[3];
      uses[keeping.program.trace.blocks[Index(kept.block)].name].push_back(kept.mode);
    }
    double work = recomputing.program.trace.ops[i].work;
    if (payload.keeps_intermediates && is_backward)
      EXPECT_LT(op.work, work) << op.name;
    else
      EXPECT_EQ(op.work, work) << op.name;
  }
  EXPECT_EQ(uses.size(), 3u * 2);  // units x micro-batches
  for (const auto& [block, modes] : uses)
    EXPECT_EQ(modes, (std::vector{AccessMode::kWrite, AccessMode::kReadWrite})) << block;
}

// The vertical schedule: accumulation must not multiply the fetches of a unit's weights.
TEST(StepProgram, MicroBatchesOfOneUnitStandTogether) {
  Built built = Build({.options = {.num_micro_batches = 3, .kind = StepKind::kInBackward}});
  std::map<std::pair<int, uint32_t>, std::vector<size_t>> positions;
  for (size_t i = 0; i < built.program.payloads.size(); ++i) {
    const OpPayload& payload = built.program.payloads[i];
    if (built.program.trace.ops[i].lane != Lane::kCompute) continue;
    uint32_t of = payload.role == OpRole::kRoundGradient ? payload.unit : payload.sublayer;
    positions[{static_cast<int>(payload.role), of}].push_back(i);
  }
  for (const auto& [key, at] : positions) EXPECT_EQ(at.back() - at.front() + 1, at.size());
}

// The horizontal schedule: only one micro-batch's activations are alive at a time.
TEST(StepProgram, HorizontallyAMicroBatchEndsBeforeTheNextStarts) {
  for (bool tied : {false, true}) {
    Built built = Build(
        {.options = {.num_micro_batches = 3, .schedule = Schedule::kHorizontal}, .tied = tied});
    uint32_t micro = 0;
    for (const OpPayload& payload : built.program.payloads) {
      if (payload.role < OpRole::kEmbeddingForward) continue;
      if (payload.role >= OpRole::kEmbeddingBackward) continue;
      EXPECT_GE(payload.micro, micro);
      micro = payload.micro;
    }
    EXPECT_EQ(micro, 2u);
  }
}

// Sums of gradients round: what is added to one in which order must not depend on the schedule.
TEST(StepProgram, EveryGradientIsSummedInTheSameOrderInBothSchedules) {
  auto additions = [](bool tied, Schedule schedule) {
    Built built = Build({.options = {.num_micro_batches = 3, .schedule = schedule}, .tied = tied});
    std::map<std::string, std::vector<std::pair<OpRole, uint32_t>>> by_gradient;
    for (size_t i = 0; i < built.program.payloads.size(); ++i) {
      const OpPayload& payload = built.program.payloads[i];
      if (built.program.trace.ops[i].lane != Lane::kCompute) continue;
      for (const prefetch::Access& access : built.program.trace.ops[i].accesses) {
        const prefetch::TraceBlock& block = built.program.trace.blocks[Index(access.block)];
        if (access.mode != AccessMode::kRead && block.name.ends_with("/g32"))
          by_gradient[block.name].push_back({payload.role, payload.micro});
      }
    }
    return by_gradient;
  };
  for (bool tied : {false, true}) {
    auto vertical = additions(tied, Schedule::kVertical);
    EXPECT_EQ(vertical.size(), 6u);
    EXPECT_EQ(vertical, additions(tied, Schedule::kHorizontal));
  }
}

TEST(StepProgram, FirstToucherOfAGradientStartsItFromZero) {
  for (const Case& c : AllCases()) {
    Built built = Build(c);
    for (size_t i = 0; i < built.program.payloads.size(); ++i) {
      const OpPayload& payload = built.program.payloads[i];
      if (payload.role != OpRole::kMlpBackward && payload.role != OpRole::kEmbeddingBackward) {
        continue;
      }
      const TraceOp& op = built.program.trace.ops[i];
      EXPECT_EQ(payload.is_first, op.accesses.back().mode == AccessMode::kWrite) << op.name;
    }
  }
}

TEST(StepProgram, SeveralRanksGatherBeforeUseAndReduceBeforeTheUpdate) {
  Built built =
      Build({.world_size = 4, .options = {.num_micro_batches = 1, .kind = StepKind::kAfterNorm}});
  std::set<uint32_t> gathered;
  std::set<uint32_t> reduced;
  for (const OpPayload& payload : built.program.payloads) {
    if (payload.role == OpRole::kGatherWeights) gathered.insert(payload.unit);
    if (payload.role == OpRole::kMlpForward) {
      EXPECT_TRUE(gathered.contains(payload.unit));
    }
    if (payload.role == OpRole::kReduceGradient) reduced.insert(payload.unit);
    if (payload.role == OpRole::kUpdate) {
      EXPECT_TRUE(reduced.contains(payload.unit));
    }
  }
}

// Every part goes through every pass once, in one tile.
TEST(StepProgram, TilesCoverTheirSublayersOnceInEveryPass) {
  for (bool tied : {false, true}) {
    for (uint32_t parts_per_op : {1u, 2u, kWholeSublayers}) {
      Built built = Build({.options = {.num_micro_batches = 2, .parts_per_op = parts_per_op},
                           .tied = tied,
                           .part_elements = kPartElements});
      std::map<std::tuple<OpRole, uint32_t, uint32_t>, std::vector<uint32_t>> parts;
      for (size_t i = 0; i < built.program.payloads.size(); ++i) {
        const OpPayload& payload = built.program.payloads[i];
        const bool is_tile =
            payload.role >= OpRole::kEmbeddingForward && payload.role <= OpRole::kEmbeddingBackward;
        if (!is_tile) continue;
        EXPECT_LE(payload.tile.num_parts, parts_per_op);
        for (uint32_t part = payload.tile.first_part; part < payload.tile.end_part(); ++part)
          parts[{payload.role, payload.sublayer, payload.micro}].push_back(part);
      }
      for (auto& [key, seen] : parts) {
        std::sort(seen.begin(), seen.end());
        std::vector<uint32_t> expected(built.layout.sublayers[std::get<1>(key)].num_parts);
        std::iota(expected.begin(), expected.end(), 0);
        EXPECT_EQ(seen, expected);
      }
      // Of 6 sublayers: all but the head forward and backward; the head once, or in two passes.
      const size_t head_passes = parts_per_op == kWholeSublayers ? 1 : 2;
      EXPECT_EQ(parts.size(), 2 * (5 + 5 + head_passes));
    }
  }
}

// So that the device's budget bounds any width: what an op needs at once is a tile.
TEST(StepProgram, TheSmallestDeviceBudgetFallsWithTheTile) {
  auto smallest = [](uint32_t parts_per_op) {
    Case wide{.options = {.parts_per_op = parts_per_op}, .part_elements = 1 << 20};
    wide.vocab_size = 64000;
    Built built = Build(wide);
    return prefetch::SmallestBudgets(built.program.trace, {})->device_bytes;
  };
  EXPECT_LT(smallest(1), smallest(2));
  EXPECT_LT(smallest(2), smallest(kWholeSublayers));
}

}  // namespace
}  // namespace strata::engine
