// Blocks of the stores of several ranks, any range of them, through a few pages of memory.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "aio/base/status.h"
#include "aio/io_buffer.h"
#include "tiering/block_store.h"

namespace strata::engine {

// Where a block is: the rank whose store has it, and its number there.
struct SavedBlock {
  uint32_t rank = 0;
  uint32_t number = 0;
  friend bool operator==(const SavedBlock&, const SavedBlock&) = default;
};

// Thread-compatible. All ranks have blocks of the same names and sizes.
class SavedBlocks {
 public:
  static constexpr uint64_t kPageBytes = 4ULL << 20;
  static constexpr uint64_t kDirectBytes = 64ULL
                                           << 10;  // so much at once need not go through pages

  // stores: by rank. verify: kOff trusts what is read, else all of a block is checked before
  // anything of it is given out.
  SavedBlocks(std::vector<std::unique_ptr<tiering::BlockStore>> stores,
              std::vector<uint64_t> block_bytes, tiering::Verify verify, uint32_t num_pages);

  Status Read(SavedBlock block, uint64_t offset_bytes, std::span<std::byte> out);
  // As SavedState's.
  Status Check(uint32_t share, uint32_t num_shares,
               const std::function<void(uint64_t done, uint64_t total)>& on_progress);
  void MarkChecked() { is_checked_.assign(is_checked_.size(), true); }

 private:
  struct Page {
    SavedBlock block;
    uint64_t number = 0;
    aio::HugeMemory memory;
  };
  size_t DirectBytes(SavedBlock block, uint64_t offset_bytes, std::span<const std::byte> out) const;
  // Valid until the next call.
  Result<std::span<const std::byte>> Load(SavedBlock block, uint64_t page);
  Result<aio::HugeMemory> FreeMemory();
  Status Fill(SavedBlock block, uint64_t page, std::span<std::byte> memory);
  size_t IndexOf(SavedBlock block) const { return block.rank * block_bytes_.size() + block.number; }

  std::vector<std::unique_ptr<tiering::BlockStore>> stores_;
  std::vector<uint64_t> block_bytes_;
  std::vector<bool> is_checked_;  // by IndexOf()
  size_t max_pages_;
  std::list<Page> pages_;  // the last used first
};

}  // namespace strata::engine
