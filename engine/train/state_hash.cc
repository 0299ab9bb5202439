#include "engine/train/state_hash.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "engine/optimizer/split_master.h"
#include "engine/train/ranks.h"

namespace strata::engine {
namespace {

using Bytes = StateAccess::Bytes;

// Shards, chunks and padded units are whole numbers of them.
constexpr uint64_t kGroupElements = 64;
static_assert(kGroupElements == kScaledElements);

class StateHasher {
 public:
  StateHasher(const StateLayout& layout, uint32_t rank, StateAccess& state,
              const std::function<void(uint64_t, uint64_t)>& on_progress)
      : layout_(layout),
        rank_(rank),
        state_(state),
        on_progress_(on_progress),
        total_(layout.size_bytes()) {}

  Result<StateHashes> Run() && {
    for (uint32_t unit = 0; unit < layout_.units.size(); ++unit) {
      STRATA_RETURN_IF_ERROR(state_.Read(layout_.units[unit].weights,
                                         [&](Bytes weights) { return AddUnit(unit, weights); }));
    }
    return hashes_;
  }

 private:
  Status AddUnit(uint32_t unit, Bytes weights) {
    const UnitState& state = layout_.units[unit];
    const uint64_t bytes = SizeOf(layout_.options.precision);
    AddGroups(state.weights, "/w", [&](uint64_t at, uint64_t count, uint64_t seed) {
      return XXH3_64bits_withSeed(weights.data() + at * bytes, count * bytes, seed);
    });
    for (const UnitState::Chunk& chunk : state.chunks) {
      if (chunk.master != state.weights) STRATA_RETURN_IF_ERROR(AddMaster(unit, chunk, weights));
      STRATA_RETURN_IF_ERROR(AddMoment(chunk.m, "/m"));
      STRATA_RETURN_IF_ERROR(AddMoment(chunk.v, "/v"));
    }
    return OkStatus();
  }

  Status AddMaster(uint32_t unit, const UnitState::Chunk& chunk, Bytes weights) {
    const StateBlock& block = layout_.blocks[chunk.master];
    if (block.kind == StateKind::kMaster) return AddFloats(chunk.master, "/master");
    const StateBlock& halves = layout_.blocks[layout_.units[unit].weights];
    const uint64_t offset =
        FirstElementOf(layout_, block, rank_) - FirstElementOf(layout_, halves, rank_);
    const auto* high = reinterpret_cast<const Bf16*>(weights.data()) + offset;
    return state_.Read(chunk.master, [&](Bytes content) {
      const auto* low = reinterpret_cast<const int16_t*>(content.data());
      AddGroups(chunk.master, "/master", [&](uint64_t at, uint64_t count, uint64_t seed) {
        std::array<float, kGroupElements> group;
        for (uint64_t i = 0; i < count; ++i) group[i] = JoinMaster(high[at + i], low[at + i]);
        return XXH3_64bits_withSeed(group.data(), count * sizeof(float), seed);
      });
      return OkStatus();
    });
  }

  Status AddMoment(uint32_t number, const char* name) {
    if (layout_.options.format != StateFormat::kInt8) return AddFloats(number, name);
    return state_.Read(number, [&](Bytes content) {
      const uint64_t num_elements = layout_.blocks[number].num_elements;
      AddGroups(number, name, [&](uint64_t at, uint64_t count, uint64_t seed) {
        std::array<std::byte, kGroupElements + 1> group;  // the codes and their scale
        std::memcpy(group.data(), content.data() + at, count);
        group[count] = content[num_elements + at / kScaledElements];
        return XXH3_64bits_withSeed(group.data(), count + 1, seed);
      });
      return OkStatus();
    });
  }

  Status AddFloats(uint32_t number, const char* name) {
    return state_.Read(number, [&](Bytes content) {
      AddGroups(number, name, [&](uint64_t at, uint64_t count, uint64_t seed) {
        return XXH3_64bits_withSeed(content.data() + at * sizeof(float), count * sizeof(float),
                                    seed);
      });
      return OkStatus();
    });
  }

  // hash_of(element in the block, count, seed) over the groups of this rank's own part.
  template <typename HashOf>
  void AddGroups(uint32_t number, const char* name, HashOf&& hash_of) {
    const StateBlock& block = layout_.blocks[number];
    const UnitSpec& spec = layout_.unit_specs[block.unit];
    const ElementRange own = OwnElements(layout_, block.unit, rank_);
    const uint64_t first = FirstElementOf(layout_, block, rank_);
    const uint64_t begin = std::max(first, own.begin);
    const uint64_t end = std::min(first + block.num_elements, own.end);
    const std::string of = spec.name + name;
    const uint64_t seed = XXH3_64bits(of.data(), of.size());
    uint64_t sum = 0;
    for (uint64_t at = begin; at < end; at += kGroupElements)
      sum += hash_of(at - first, std::min(kGroupElements, end - at), seed + at);
    const bool is_moment = block.kind == StateKind::kM || block.kind == StateKind::kV;
    hashes_.all += sum;
    if (!is_moment) hashes_.weights += sum;
    on_progress_(done_ += block.size_bytes(), total_);
  }

  const StateLayout& layout_;
  const uint32_t rank_;
  StateAccess& state_;
  const std::function<void(uint64_t, uint64_t)>& on_progress_;
  const uint64_t total_;
  uint64_t done_ = 0;
  StateHashes hashes_;
};

}  // namespace

Result<StateHashes> HashState(const StateLayout& layout, uint32_t rank, StateAccess& state,
                              const std::function<void(uint64_t, uint64_t)>& on_progress) {
  return StateHasher(layout, rank, state, on_progress).Run();
}

Result<StateHashes> SumOverRanks(Communicator& communicator, const StateHashes& own) {
  STRATA_ASSIGN_OR_RETURN(const std::vector<std::vector<uint64_t>> of_ranks,
                          FromAllRanks(communicator, {own.weights, own.all}));
  StateHashes sum;
  for (const std::vector<uint64_t>& one : of_ranks) sum += {.weights = one[0], .all = one[1]};
  return sum;
}

}  // namespace strata::engine
