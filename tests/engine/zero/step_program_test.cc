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

#include "engine/zero/state_layout.h"
#include "prefetch/compile.h"
#include "prefetch/verify.h"
#include "tests/engine/zero/step_cases.h"

namespace strata::engine {
namespace {

using prefetch::AccessMode;
using prefetch::Lane;
using prefetch::TraceOp;

// Whether the op gives the unit's share of the norm: the last op before its gradient is applied.
bool IsNorm(const OpPayload& payload) {
  return payload.role == OpRole::kRoundGradient || payload.role == OpRole::kNorm;
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
