// The memory that ranks of a node read of each other: a board, staging buffers, and the regions
// that they share (arenas).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "aio/io_buffer.h"
#include "engine/comm/internal/board.h"
#include "engine/comm/internal/rank_map.h"

namespace strata::engine {

// How a process names memory to others of its machine.
struct MemoryName {
  int64_t process = 0;
  int64_t fd = -1;  // -1: none
  uint64_t size_bytes = 0;
  uint64_t address = 0;
  uint64_t nonce = 0;
};

enum class PeerAccess { kReadOnly, kReadWrite };

// Another process's memory, or our own where ranks are threads of one process.
class PeerMemory {
 public:
  static Result<PeerMemory> Map(const MemoryName& name, PeerAccess access);
  PeerMemory() = default;
  PeerMemory(PeerMemory&& other) noexcept;
  PeerMemory& operator=(PeerMemory&& other) noexcept;
  ~PeerMemory();

  std::byte* data() const { return bytes_.data(); }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  PeerMemory(std::span<std::byte> bytes, bool is_mapped) : bytes_(bytes), is_mapped_(is_mapped) {}

  std::span<std::byte> bytes_;
  bool is_mapped_ = false;
};

// Set up by one thread; then read-only but for what boards and payloads hold.
class NodeMemory {
 public:
  // Rows are staged in so many slots, so that one is filled while others are read.
  static constexpr uint64_t kNumSlots = 2;
  // Of a channel's slot.
  static uint64_t SlotBytes(ChannelId channel);

  static Result<NodeMemory> Create(uint64_t nonce);

  // The board and the staging buffers, for Join() of the others.
  MemoryName name() const;
  // By local rank, our own among them.
  Status Join(const RankMap& ranks, std::span<const MemoryName> of_node);
  // A further region of every rank of the node.
  Status AddRegion(const RankMap& ranks, std::span<const MemoryName> of_node);

  // Our own part of a region: payloads there are found no more.
  void RemoveRegion(std::span<const std::byte> own);

  RankBoard& board(uint32_t local_rank) { return *boards_[local_rank]; }
  RankBoard& own_board() { return *boards_[own_]; }
  const RankBoard& own_board() const { return *boards_[own_]; }
  Exposure Find(std::span<const std::byte> payload) const;
  // Where a rank's payload begins. Not for one that is staged.
  const std::byte* At(uint32_t local_rank, const Exposure& exposure) const;
  const std::byte* Slot(uint32_t local_rank, ChannelId channel, uint64_t row) const;
  std::byte* OwnSlot(ChannelId channel, uint64_t row);

 private:
  explicit NodeMemory(aio::HugeMemory own) : own_memory_(std::move(own)) {}

  aio::HugeMemory own_memory_;
  uint32_t own_ = 0;
  std::vector<RankBoard*> boards_;
  std::vector<std::vector<PeerMemory>> regions_;  // [0]: boards and staging; by region and rank
};

MemoryName NameOf(std::span<std::byte> memory, int fd, uint64_t nonce);

}  // namespace strata::engine
