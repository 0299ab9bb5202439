#include "engine/train/state_writer.h"

#include <utility>

namespace strata::engine {

Status StateWriter::Finish() {
  if (!ticket_.valid()) return OkStatus();
  return std::exchange(ticket_, {}).Finish();
}

// Behind the block under way, or before it; where there is room for one only, when that is over.
Result<StateWriter::Bytes> StateWriter::StageBesideWhatIsUnderWay(uint32_t block) {
  const Bytes all = access_.staging_;
  const uint64_t need = access_.StageBytes(block);
  if (ticket_.valid()) {
    const auto before = static_cast<uint64_t>(written_.data() - all.data());
    const uint64_t end = before + written_.size();
    if (all.size() - end >= need) return all.subspan(end, need);
    if (before < need) STRATA_RETURN_IF_ERROR(Finish());
  }
  return access_.Stage(block);
}

Status StateWriter::Write(uint32_t block, const std::function<Status(Bytes)>& fill) {
  const StateBlock& about = access_.BlockAt(block);
  if (about.home == tiering::Tier::kHost)
    return fill(access_.HomeSlot(block).first(about.size_bytes()));
  STRATA_ASSIGN_OR_RETURN(Bytes stage, StageBesideWhatIsUnderWay(block));
  const Bytes content = stage.first(about.size_bytes());
  STRATA_RETURN_IF_ERROR(fill(content));
  if (about.home == tiering::Tier::kDevice)
    return access_.CopyToDevice(access_.HomeSlot(block).first(content.size()), content);
  tiering::StoreTicket next = access_.parts_.store->StartWrite(tiering::StoreBlock(block), stage);
  STRATA_RETURN_IF_ERROR(Finish());
  ticket_ = std::move(next);
  written_ = stage;
  return OkStatus();
}

}  // namespace strata::engine
