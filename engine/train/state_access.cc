#include "engine/train/state_access.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "aio/base/units.h"
#include "engine/optimizer/split_master.h"

namespace strata::engine {
namespace {

uint64_t PaddedBytes(const StateBlock& block) {
  return RoundUp(block.size_bytes(), tiering::kSlotAlignmentBytes);
}

}  // namespace

StateAccess::StateAccess(const StateAccessParts& parts)
    : parts_(parts),
      homes_(parts.layout->blocks.size()),
      stream_(parts.device->CreateStream("state")) {
  for (const prefetch::Resident& resident : parts.plan->residents) {
    // Kept gradients have homes, too, and are no state.
    if (resident.is_home && Index(resident.block) < homes_.size())
      homes_[Index(resident.block)] = resident.slot;
  }
}

StateAccess::Bytes StateAccess::FreeHostMemory() const {
  uint64_t end = 0;
  for (const prefetch::Slot& home : homes_) {
    if (home.tier == tiering::Tier::kHost) {
      end = std::max(end, home.offset_bytes + home.size_bytes);
    }
  }
  return parts_.host->bytes().subspan(end);
}

StateAccess::Bytes StateAccess::HomeSlot(uint32_t block) const {
  const prefetch::Slot& slot = homes_[block];
  STRATA_CHECK(slot.size_bytes >= BlockAt(block).size_bytes());
  return slot.tier == tiering::Tier::kHost
             ? parts_.host->Slot(slot.offset_bytes, slot.size_bytes)
             : parts_.device->memory().subspan(slot.offset_bytes, slot.size_bytes);
}

Result<StateAccess::Bytes> StateAccess::Stage(uint32_t block) const {
  uint64_t need = PaddedBytes(BlockAt(block));
  if (staging_.size() >= need) return staging_.first(need);
  return ResourceExhausted(
      fmt::format("{} passes through host memory in one piece of {}, and {} are free there; raise "
                  "[memory] host",
                  BlockAt(block).name, FormatBytes(need), FormatBytes(staging_.size())));
}

Status StateAccess::CopyToDevice(Bytes to, Bytes from) {
  stream_->CopyIn(to, from);
  return stream_->Record().Wait();
}

Status StateAccess::CopyFromDevice(Bytes to, Bytes from) {
  stream_->CopyOut(to, from);
  return stream_->Record().Wait();
}

Status StateAccess::Write(uint32_t block, const std::function<Status(Bytes)>& fill) {
  const StateBlock& description = BlockAt(block);
  if (description.home == tiering::Tier::kHost) {
    return fill(HomeSlot(block).first(description.size_bytes()));
  }
  STRATA_ASSIGN_OR_RETURN(Bytes stage, Stage(block));
  Bytes content = stage.first(description.size_bytes());
  STRATA_RETURN_IF_ERROR(fill(content));
  if (description.home == tiering::Tier::kDevice) {
    return CopyToDevice(HomeSlot(block).first(content.size()), content);
  }
  return parts_.store->StartWrite(tiering::StoreBlock(block), stage).Finish();
}

Status StateAccess::Read(uint32_t block, const std::function<Status(Bytes)>& use) {
  const StateBlock& description = BlockAt(block);
  if (description.home == tiering::Tier::kHost) {
    return use(HomeSlot(block).first(description.size_bytes()));
  }
  STRATA_ASSIGN_OR_RETURN(Bytes stage, Stage(block));
  Bytes content = stage.first(description.size_bytes());
  if (description.home == tiering::Tier::kDevice) {
    STRATA_RETURN_IF_ERROR(CopyFromDevice(content, HomeSlot(block).first(content.size())));
  } else {
    STRATA_RETURN_IF_ERROR(parts_.store->StartRead(tiering::StoreBlock(block), stage).Finish());
  }
  Bytes all = std::exchange(staging_, staging_.subspan(stage.size()));
  Status status = use(content);
  staging_ = all;
  return status;
}

Result<StateAccess::Bytes> StateAccess::Outgoing(uint32_t block) {
  STRATA_CHECK(BlockAt(block).home != tiering::Tier::kNvme);
  Bytes home = HomeSlot(block);
  if (BlockAt(block).home == tiering::Tier::kHost) return home;
  STRATA_ASSIGN_OR_RETURN(Bytes stage, Stage(block));
  STRATA_RETURN_IF_ERROR(CopyFromDevice(stage, home.first(stage.size())));
  return stage;
}

Status StateAccess::LoadMemoryHomes() {
  for (uint32_t block = 0; block < homes_.size(); ++block) {
    if (BlockAt(block).home == tiering::Tier::kNvme) continue;
    Bytes target = HomeSlot(block);
    Bytes landing = target;
    if (BlockAt(block).home == tiering::Tier::kDevice) {
      STRATA_ASSIGN_OR_RETURN(landing, Stage(block));
    }
    STRATA_RETURN_IF_ERROR(parts_.store->StartRead(tiering::StoreBlock(block), landing).Finish());
    if (landing.data() != target.data()) {
      STRATA_RETURN_IF_ERROR(CopyToDevice(target.first(landing.size()), landing));
    }
  }
  return OkStatus();
}

namespace {

uint64_t HashOf(StateAccess::Bytes content, uint64_t seed) {
  return XXH3_64bits_withSeed(content.data(), content.size(), seed);
}

uint64_t NameSeed(const std::string& name) { return XXH3_64bits(name.data(), name.size()); }

// Of the fp32 numbers whose halves these are, as HashOf() of them: in pieces.
uint64_t HashOfJoined(StateAccess::Bytes weights, StateAccess::Bytes remainders, uint64_t seed) {
  constexpr uint64_t kPieceElements = 4096;
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                 &XXH3_freeState);
  XXH3_64bits_reset_withSeed(state.get(), seed);
  const auto* high = reinterpret_cast<const Bf16*>(weights.data());
  const auto* low = reinterpret_cast<const int16_t*>(remainders.data());
  uint64_t num_elements = remainders.size() / sizeof(int16_t);
  std::vector<float> piece(kPieceElements);
  for (uint64_t first = 0; first < num_elements; first += kPieceElements) {
    uint64_t count = std::min(kPieceElements, num_elements - first);
    for (uint64_t i = 0; i < count; ++i) piece[i] = JoinMaster(high[first + i], low[first + i]);
    XXH3_64bits_update(state.get(), piece.data(), count * sizeof(float));
  }
  return XXH3_64bits_digest(state.get());
}

// Block by block, so that the padding and the order of tiers do not show.
class StateHasher {
 public:
  StateHasher(const StateLayout& layout, StateAccess& state,
              const std::function<void(uint64_t, uint64_t)>& on_progress)
      : layout_(layout), state_(state), on_progress_(on_progress), total_(layout.size_bytes()) {}

  Result<StateHashes> Run() && {
    for (const UnitState& unit : layout_.units) {
      STRATA_RETURN_IF_ERROR(state_.Read(unit.weights, [&](Bytes weights) {
        Add(unit.weights, HashOf(weights, NameSeed(layout_.blocks[unit.weights].name)));
        return AddChunks(unit, weights);
      }));
    }
    return hashes_;
  }

 private:
  using Bytes = StateAccess::Bytes;

  Status AddChunks(const UnitState& unit, Bytes weights) {
    for (size_t number = 0; number < unit.chunks.size(); ++number) {
      const UnitState::Chunk& chunk = unit.chunks[number];
      if (chunk.master != unit.weights) {
        STRATA_RETURN_IF_ERROR(AddMaster(chunk, number, weights));
      }
      STRATA_RETURN_IF_ERROR(AddPlain(chunk.m));
      STRATA_RETURN_IF_ERROR(AddPlain(chunk.v));
    }
    return OkStatus();
  }

  Status AddMaster(const UnitState::Chunk& chunk, size_t number, Bytes weights) {
    const StateBlock& block = layout_.blocks[chunk.master];
    if (block.kind != StateKind::kRemainder) return AddPlain(chunk.master);
    // Under the name that the block has in format fp32.
    uint64_t seed =
        NameSeed(fmt::format("{}/master.{}", layout_.unit_specs[block.unit].name, number));
    Bytes high = weights.subspan(chunk.first_element * sizeof(Bf16));
    return state_.Read(chunk.master, [&](Bytes low) {
      Add(chunk.master, HashOfJoined(high, low, seed));
      return OkStatus();
    });
  }

  Status AddPlain(uint32_t block) {
    return state_.Read(block, [&](Bytes content) {
      Add(block, HashOf(content, NameSeed(layout_.blocks[block].name)));
      return OkStatus();
    });
  }

  void Add(uint32_t number, uint64_t hash) {
    const StateBlock& block = layout_.blocks[number];
    bool is_moment = block.kind == StateKind::kM || block.kind == StateKind::kV;
    hashes_.all = XXH3_64bits_withSeed(&hash, sizeof(hash), hashes_.all);
    if (!is_moment) hashes_.weights = XXH3_64bits_withSeed(&hash, sizeof(hash), hashes_.weights);
    on_progress_(done_ += block.size_bytes(), total_);
  }

  const StateLayout& layout_;
  StateAccess& state_;
  const std::function<void(uint64_t, uint64_t)>& on_progress_;
  const uint64_t total_;
  uint64_t done_ = 0;
  StateHashes hashes_;
};

}  // namespace

Result<StateHashes> HashState(const StateLayout& layout, StateAccess& state,
                              const std::function<void(uint64_t, uint64_t)>& on_progress) {
  return StateHasher(layout, state, on_progress).Run();
}

}  // namespace strata::engine
