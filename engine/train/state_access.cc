#include "engine/train/state_access.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "aio/base/units.h"

namespace strata::engine {
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

uint64_t StateAccess::StageBytes(uint32_t block) const {
  return RoundUp(BlockAt(block).size_bytes(), tiering::kSlotAlignmentBytes);
}

Result<StateAccess::Bytes> StateAccess::Stage(uint32_t block) const {
  const uint64_t need = StageBytes(block);
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

}  // namespace strata::engine
