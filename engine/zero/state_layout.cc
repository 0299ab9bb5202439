#include "engine/zero/state_layout.h"

#include <fmt/format.h>

#include <algorithm>

#include "aio/base/check.h"
#include "aio/base/units.h"

namespace strata::engine {
namespace {

// Eight chunks let reads, updates and writes of one unit overlap; below 1 Mi elements a block is
// too small to stream well, above 16 Mi a working set of three is too large for small hosts. Parts
// overlap with one another.
uint64_t ChunkElements(uint64_t shard_elements, bool is_part) {
  const uint64_t least = is_part ? 1ULL << 23 : 1ULL << 20;
  constexpr uint64_t kMost = 1ULL << 24;
  return std::clamp<uint64_t>(RoundUp(CeilDiv(shard_elements, 8), 1ULL << 16), least, kMost);
}

class LayoutBuilder {
 public:
  LayoutBuilder(const LayoutOptions& options, std::vector<Sublayer> sublayers) {
    STRATA_CHECK(options.precision == DType::kBf16 || options.format == StateFormat::kFp32);
    layout_.options = options;
    layout_.sublayers = std::move(sublayers);
  }

  void AddUnit(UnitSpec spec) {
    uint32_t unit = static_cast<uint32_t>(layout_.units.size());
    UnitState state;
    const LayoutOptions& options = layout_.options;
    const uint32_t num_shards = options.shards_optimizer() ? options.world_size : 1;
    state.shard_elements = ShardElements(spec.num_elements, num_shards);
    state.whole_elements = state.shard_elements * num_shards;
    const uint64_t weights = options.shards_weights() ? state.shard_elements : state.whole_elements;
    const bool is_part = spec.tensors.front().is_part();
    layout_.unit_specs.push_back(std::move(spec));
    layout_.units.push_back({});
    state.weights = AddBlock(unit, "w", StateKind::kWeights, 0, weights);
    uint64_t step = ChunkElements(state.shard_elements, is_part);
    for (uint64_t first = 0; first < state.shard_elements; first += step) {
      AddChunk(unit, first, std::min(step, state.shard_elements - first), state);
    }
    layout_.units[unit] = std::move(state);
  }

  StateLayout Take() && { return std::move(layout_); }

 private:
  void AddChunk(uint32_t unit, uint64_t first, uint64_t count, UnitState& state) {
    UnitState::Chunk chunk{.first_element = first, .num_elements = count};
    size_t number = state.chunks.size();
    chunk.master = layout_.options.precision == DType::kF32 ? state.weights
                                                            : AddMaster(unit, number, first, count);
    chunk.m = AddBlock(unit, fmt::format("m.{}", number), StateKind::kM, first, count);
    chunk.v = AddBlock(unit, fmt::format("v.{}", number), StateKind::kV, first, count);
    state.chunks.push_back(chunk);
  }

  uint32_t AddMaster(uint32_t unit, size_t number, uint64_t first, uint64_t count) {
    if (layout_.options.format == StateFormat::kFp32) {
      return AddBlock(unit, fmt::format("master.{}", number), StateKind::kMaster, first, count);
    }
    return AddBlock(unit, fmt::format("lo.{}", number), StateKind::kRemainder, first, count);
  }

  uint32_t AddBlock(uint32_t unit, const std::string& suffix, StateKind kind, uint64_t first,
                    uint64_t count) {
    bool is_weights = kind == StateKind::kWeights;
    layout_.blocks.push_back({
        .name = layout_.unit_specs[unit].name + "/" + suffix,
        .kind = kind,
        .unit = unit,
        .first_element = first,
        .num_elements = count,
        .num_bytes = BytesOf(layout_.options, kind, count),
        .home = is_weights ? layout_.options.weights_home : layout_.options.optimizer_home,
    });
    return static_cast<uint32_t>(layout_.blocks.size() - 1);
  }

  StateLayout layout_;
};

}  // namespace

bool HasKind(const LayoutOptions& options, StateKind kind) {
  const bool is_joined = options.format != StateFormat::kFp32;
  if (kind == StateKind::kMaster) return !is_joined && options.precision != DType::kF32;
  return kind != StateKind::kRemainder || is_joined;
}

uint64_t BytesOf(const LayoutOptions& options, StateKind kind, uint64_t num_elements) {
  switch (kind) {
    case StateKind::kWeights:
      return num_elements * SizeOf(options.precision);
    case StateKind::kMaster:
      return num_elements * sizeof(float);
    case StateKind::kRemainder:
      return num_elements * sizeof(int16_t);
    case StateKind::kM:
    case StateKind::kV:
      break;
  }
  return MomentBytes(options.format, num_elements);
}

uint64_t ShardElements(uint64_t unit_elements, uint32_t world_size) {
  return RoundUp(CeilDiv(unit_elements, world_size), 64);
}

uint64_t FirstElementOf(const StateLayout& layout, const StateBlock& block, uint32_t rank) {
  const bool is_sharded = block.kind == StateKind::kWeights ? layout.options.shards_weights()
                                                            : layout.options.shards_optimizer();
  const uint64_t start = is_sharded ? rank * layout.units[block.unit].shard_elements : 0;
  return start + block.first_element;
}

ElementRange OwnElements(const StateLayout& layout, uint32_t unit, uint32_t rank) {
  const uint64_t all = layout.unit_specs[unit].num_elements;
  const uint64_t shard = ShardElements(all, layout.options.world_size);
  return {std::min(all, rank * shard), std::min(all, (rank + 1) * shard)};
}

StateLayout MakeStateLayout(std::vector<UnitSpec> units, const LayoutOptions& options) {
  LayoutBuilder builder(options, SublayersOf(units));
  for (UnitSpec& unit : units) builder.AddUnit(std::move(unit));
  return std::move(builder).Take();
}

uint64_t StateLayout::size_bytes() const {
  uint64_t total = 0;
  for (const StateBlock& block : blocks) total += block.size_bytes();
  return total;
}

uint64_t StateLayout::num_shard_elements() const {
  uint64_t total = 0;
  for (const UnitState& unit : units) total += unit.shard_elements;
  return total;
}

}  // namespace strata::engine
