#include "engine/zero/state_layout.h"

#include <gtest/gtest.h>

#include "tests/engine/zero/step_cases.h"

namespace strata::engine {
namespace {

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

}  // namespace
}  // namespace strata::engine
