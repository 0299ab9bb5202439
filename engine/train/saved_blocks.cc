#include "engine/train/saved_blocks.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "aio/base/check.h"
#include "aio/base/units.h"
#include "tiering/arena.h"

namespace strata::engine {

SavedBlocks::SavedBlocks(std::vector<std::unique_ptr<tiering::BlockStore>> stores,
                         std::vector<uint64_t> block_bytes, tiering::Verify verify,
                         uint32_t num_pages)
    : stores_(std::move(stores)),
      block_bytes_(std::move(block_bytes)),
      is_checked_(stores_.size() * block_bytes_.size(), verify == tiering::Verify::kOff),
      max_pages_(std::max(1u, num_pages)) {}

Status SavedBlocks::Read(SavedBlock block, uint64_t offset_bytes, std::span<std::byte> out) {
  STRATA_CHECK(offset_bytes + out.size() <= block_bytes_[block.number]);
  if (const size_t direct = DirectBytes(block, offset_bytes, out); direct > 0) {
    STRATA_RETURN_IF_ERROR(stores_[block.rank]->ReadRange(tiering::StoreBlock(block.number),
                                                          offset_bytes, out.first(direct)));
    out = out.subspan(direct);
    offset_bytes += direct;
  }
  while (!out.empty()) {
    STRATA_ASSIGN_OR_RETURN(std::span<const std::byte> page,
                            Load(block, offset_bytes / kPageBytes));
    std::span<const std::byte> from = page.subspan(offset_bytes % kPageBytes);
    const size_t now = std::min(from.size(), out.size());
    std::memcpy(out.data(), from.data(), now);
    out = out.subspan(now);
    offset_bytes += now;
  }
  return OkStatus();
}

// What the drive can put where it is wanted. Short reads stay with the pages: the next one may want
// what is beside them.
size_t SavedBlocks::DirectBytes(SavedBlock block, uint64_t offset_bytes,
                                std::span<const std::byte> out) const {
  constexpr uint64_t kAlignment = tiering::kSlotAlignmentBytes;
  const bool is_aligned =
      offset_bytes % kAlignment == 0 && reinterpret_cast<uintptr_t>(out.data()) % kAlignment == 0;
  if (!is_checked_[IndexOf(block)] || !is_aligned || out.size() < kDirectBytes) return 0;
  return out.size() / kAlignment * kAlignment;
}

Result<std::span<const std::byte>> SavedBlocks::Load(SavedBlock block, uint64_t page) {
  auto found = std::ranges::find_if(
      pages_, [&](const Page& one) { return one.block == block && one.number == page; });
  if (found != pages_.end()) {
    pages_.splice(pages_.begin(), pages_, found);
    return std::span<const std::byte>(pages_.front().memory.bytes());
  }
  STRATA_ASSIGN_OR_RETURN(aio::HugeMemory memory, FreeMemory());
  STRATA_RETURN_IF_ERROR(Fill(block, page, memory.bytes()));
  pages_.push_front({block, page, std::move(memory)});
  return std::span<const std::byte>(pages_.front().memory.bytes());
}

Result<aio::HugeMemory> SavedBlocks::FreeMemory() {
  if (pages_.size() < max_pages_) return aio::HugeMemory::Map(kPageBytes);
  aio::HugeMemory memory = std::move(pages_.back().memory);
  pages_.pop_back();
  return memory;
}

// A block of one page is read and checked at once, a larger one checked first, in pieces.
Status SavedBlocks::Fill(SavedBlock block, uint64_t page, std::span<std::byte> memory) {
  tiering::BlockStore& store = *stores_[block.rank];
  const auto number = tiering::StoreBlock(block.number);
  const uint64_t padded = RoundUp(block_bytes_[block.number], tiering::kSlotAlignmentBytes);
  if (padded <= kPageBytes) return store.StartRead(number, memory).Finish();
  if (!is_checked_[IndexOf(block)]) {
    STRATA_RETURN_IF_ERROR(store.Check(number, memory));
    is_checked_[IndexOf(block)] = true;
  }
  const uint64_t begin = page * kPageBytes;
  return store.ReadRange(number, begin, memory.first(std::min(kPageBytes, padded - begin)));
}

Status SavedBlocks::Check(uint32_t share, uint32_t num_shares,
                          const std::function<void(uint64_t, uint64_t)>& on_progress) {
  std::vector<SavedBlock> mine;
  uint64_t done = 0, total = 0;
  for (size_t index = share; index < is_checked_.size(); index += num_shares) {
    mine.push_back({static_cast<uint32_t>(index / block_bytes_.size()),
                    static_cast<uint32_t>(index % block_bytes_.size())});
    total += block_bytes_[mine.back().number];
  }
  STRATA_ASSIGN_OR_RETURN(aio::HugeMemory memory, aio::HugeMemory::Map(kPageBytes));
  for (SavedBlock block : mine) {
    STRATA_RETURN_IF_ERROR(
        stores_[block.rank]->Check(tiering::StoreBlock(block.number), memory.bytes()));
    is_checked_[IndexOf(block)] = true;
    on_progress(done += block_bytes_[block.number], total);
  }
  return OkStatus();
}

}  // namespace strata::engine
