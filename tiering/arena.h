// One allocation of host memory per tier, made at start, exactly the budget.
//
// Slots of a step plan are offsets into it; nothing is allocated during a step. Memory is on huge
// pages where they are to be had and populated at once, so that a budget that the machine cannot
// give fails at start.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "aio/base/status.h"
#include "aio/io_buffer.h"

namespace strata::tiering {

// Slots start and end at multiples of this: what direct I/O needs on any drive.
inline constexpr uint64_t kSlotAlignmentBytes = 4096;

// Thread-safe after Create.
class Arena {
 public:
  // `budget_bytes` is rounded down to kSlotAlignmentBytes. On failure the message names `purpose`
  // ("host", "device (cpu)"), the size asked for and what the machine has free. /proc/PID/maps
  // shows the memory as "strata PURPOSE", as HugeMemory says.
  static Result<Arena> Create(const std::string& purpose, uint64_t budget_bytes,
                              aio::Sharing sharing = aio::Sharing::kPrivate);

  std::span<std::byte> bytes() const { return memory_.bytes().first(size_bytes_); }
  uint64_t size_bytes() const { return size_bytes_; }
  // Of shared memory: what other processes map to see it. Else -1.
  int fd() const { return memory_.fd(); }
  // A CHECKed view of one slot.
  std::span<std::byte> Slot(uint64_t offset_bytes, uint64_t length_bytes) const;

 private:
  Arena(aio::HugeMemory memory, uint64_t size_bytes)
      : memory_(std::move(memory)), size_bytes_(size_bytes) {}

  aio::HugeMemory memory_;
  uint64_t size_bytes_;
};

}  // namespace strata::tiering
