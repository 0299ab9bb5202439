// The training state as blocks: which there are, how large, and where they are at home.
//
// Each unit is flattened and padded, and each rank owns 1/world_size of it: its shard (ZeRO,
// Rajbhandari et al. 2020). A shard has one block of weights and, cut into chunks, three blocks per
// chunk: what the master weight has beside the weight, m and v, in one of the formats of
// engine/optimizer/state_format.h (precision fp32: only two, the weights are their own master).
// Names, sizes and content depend on model, precision, format and world size alone, never on
// budgets or tiers, so a checkpoint made on one tier resumes on any other.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/kernels/dtype.h"
#include "engine/model/units.h"
#include "engine/optimizer/state_format.h"
#include "prefetch/trace.h"

namespace strata::engine {

enum class StateKind : uint8_t {
  kWeights,
  kMaster,     // format fp32: fp32
  kRemainder,  // split, int8: int16, see split_master.h
  kM,
  kV,
};

struct StateBlock {
  std::string name;  // "layers.3.mlp/w", "layers.3.mlp/lo.2", "layers.3.mlp/m.2"
  StateKind kind = StateKind::kWeights;
  uint32_t unit = 0;
  uint64_t first_element = 0;  // within this rank's shard
  uint64_t num_elements = 0;
  uint64_t num_bytes = 0;
  tiering::Tier home = tiering::Tier::kNvme;

  uint64_t size_bytes() const { return num_bytes; }
};

struct LayoutOptions {
  DType precision = DType::kBf16;
  StateFormat format = StateFormat::kFp32;  // precision fp32 has no other
  uint32_t world_size = 1;
  tiering::Tier weights_home = tiering::Tier::kNvme;
  tiering::Tier optimizer_home = tiering::Tier::kNvme;
  // ZeRO's: what each rank has 1/world_size of. 0: nothing, 1: optimizer state, 2: and gradients,
  // 3: and weights.
  uint32_t stage = 3;

  bool shards_weights() const { return stage >= 3 && world_size > 1; }
  bool shards_gradients() const { return stage >= 2 && world_size > 1; }
  bool shards_optimizer() const { return stage >= 1 && world_size > 1; }
};

// Whether there are blocks of this kind: precision fp32 has no masters but its weights, only split
// and int8 have remainders.
bool HasKind(const LayoutOptions& options, StateKind kind);
// What so many elements take; of moments in int8 a multiple of kScaledElements.
uint64_t BytesOf(const LayoutOptions& options, StateKind kind, uint64_t num_elements);
// In int8: first the codes, one byte each, then the scales.
inline bool IsCoded(const LayoutOptions& options, StateKind kind) {
  return options.format == StateFormat::kInt8 && (kind == StateKind::kM || kind == StateKind::kV);
}

// A unit's part of the layout: indices into StateLayout::blocks.
struct UnitState {
  uint64_t shard_elements = 0;  // that the rank's optimizer state is of
  uint64_t whole_elements = 0;  // padded
  uint32_t weights = 0;
  struct Chunk {
    uint64_t first_element = 0;
    uint64_t num_elements = 0;
    uint32_t master = 0;  // master or remainder; precision fp32: the weights block
    uint32_t m = 0;
    uint32_t v = 0;
  };
  std::vector<Chunk> chunks;
};

struct StateLayout {
  LayoutOptions options;
  std::vector<UnitSpec> unit_specs;
  std::vector<Sublayer> sublayers;  // over unit_specs
  std::vector<UnitState> units;
  std::vector<StateBlock> blocks;

  // Bytes of all blocks, of one rank.
  uint64_t size_bytes() const;
  uint64_t num_shard_elements() const;
};

// Elements of one rank's shard: padded so that all ranks have the same number, a multiple of 64.
uint64_t ShardElements(uint64_t unit_elements, uint32_t world_size);

// Where in its unit a block of this rank begins. What is not sharded begins with the unit.
uint64_t FirstElementOf(const StateLayout& layout, const StateBlock& block, uint32_t rank);

// The rank's own part of a unit, whether or not it has the rest, too: [begin, end), without
// padding.
struct ElementRange {
  uint64_t begin = 0;
  uint64_t end = 0;
};
ElementRange OwnElements(const StateLayout& layout, uint32_t unit, uint32_t rank);

StateLayout MakeStateLayout(std::vector<UnitSpec> units, const LayoutOptions& options);

}  // namespace strata::engine
