#include "tiering/arena.h"

#include <fmt/format.h>

#include "aio/base/units.h"
#include "tiering/internal/available_memory.h"

namespace strata::tiering {

Result<Arena> Arena::Create(const std::string& purpose, uint64_t budget_bytes,
                            aio::Sharing sharing) {
  uint64_t size_bytes = budget_bytes / kSlotAlignmentBytes * kSlotAlignmentBytes;
  if (size_bytes == 0) {
    return InvalidArgument(fmt::format("{} memory: a budget of {} holds no slot of {}: raise it",
                                       purpose, FormatBytes(budget_bytes),
                                       FormatBytes(kSlotAlignmentBytes)));
  }
  // Asked before mapping: the kernel would say yes, and the OOM killer no, while it is populated.
  uint64_t available_bytes = AvailableMemoryBytes();
  std::string what = fmt::format("{} memory: budget {}, available {}", purpose,
                                 FormatBytes(size_bytes), FormatBytes(available_bytes));
  if (size_bytes > available_bytes) {
    return ResourceExhausted(fmt::format("{}: lower the budget by {} or free that much", what,
                                         FormatBytes(size_bytes - available_bytes)));
  }
  auto memory = aio::HugeMemory::Map(size_bytes, sharing, "strata " + purpose);
  if (!memory.ok()) return memory.status().With(what);
  return Arena(std::move(memory).value(), size_bytes);
}

std::span<std::byte> Arena::Slot(uint64_t offset_bytes, uint64_t length_bytes) const {
  STRATA_CHECK(offset_bytes % kSlotAlignmentBytes == 0);
  STRATA_CHECK(offset_bytes <= size_bytes_ && length_bytes <= size_bytes_ - offset_bytes);
  return bytes().subspan(offset_bytes, length_bytes);
}

}  // namespace strata::tiering
