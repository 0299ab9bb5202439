#include "aio/bench/internal/target_content.h"

#include <fmt/format.h>

#include <optional>

#include "aio/base/check.h"

namespace strata::aio {

TargetContent::TargetContent(const StripedFile& files, uint64_t size_bytes, uint64_t seed)
    : files_(files), seed_(seed), generations_(size_bytes / kPatternSectorBytes, 0) {}

// A run lies in one file and was written equally often.
template <typename Visit>
void TargetContent::VisitRuns(uint64_t offset_bytes, uint64_t length_bytes, Visit&& visit) const {
  uint64_t at_bytes = 0;
  for (const StripeLayout::Extent& extent : files_.layout().Map(offset_bytes, length_bytes)) {
    uint64_t end_bytes = at_bytes + extent.length_bytes;
    uint64_t in_file = extent.offset_bytes / kPatternSectorBytes;
    while (at_bytes < end_bytes) {
      size_t first = (offset_bytes + at_bytes) / kPatternSectorBytes;
      size_t limit = first + (end_bytes - at_bytes) / kPatternSectorBytes;
      size_t last = first + 1;
      while (last < limit && generations_[last] == generations_[first]) ++last;
      SectorId id = {.seed = seed_,
                     .file = static_cast<uint32_t>(extent.file),
                     .generation = generations_[first],
                     .sector = in_file};
      size_t run_bytes = (last - first) * kPatternSectorBytes;
      visit(id, at_bytes, run_bytes);
      at_bytes += run_bytes;
      in_file += last - first;
    }
  }
}

void TargetContent::CountWrite(uint64_t offset_bytes, uint64_t length_bytes) {
  STRATA_CHECK(offset_bytes % kPatternSectorBytes == 0 && length_bytes % kPatternSectorBytes == 0);
  size_t first = offset_bytes / kPatternSectorBytes, count = length_bytes / kPatternSectorBytes;
  STRATA_CHECK(first + count <= generations_.size());
  for (size_t i = 0; i < count; ++i) ++generations_[first + i];
}

void TargetContent::FillForWrite(uint64_t offset_bytes, std::span<std::byte> bytes) {
  CountWrite(offset_bytes, bytes.size());
  VisitRuns(offset_bytes, bytes.size(), [&](const SectorId& id, size_t at, size_t length) {
    FillPattern(bytes.subspan(at, length), id);
  });
}

void TargetContent::StampForWrite(uint64_t offset_bytes, std::span<std::byte> bytes) {
  CountWrite(offset_bytes, bytes.size());
  VisitRuns(offset_bytes, bytes.size(), [&](const SectorId& id, size_t at, size_t length) {
    StampPattern(bytes.subspan(at, length), id);
  });
}

Status TargetContent::Check(uint64_t offset_bytes, std::span<const std::byte> bytes) const {
  std::optional<SectorFault> fault;
  VisitRuns(offset_bytes, bytes.size(), [&](const SectorId& id, size_t at, size_t length) {
    if (!fault) fault = CheckPattern(bytes.subspan(at, length), id);
  });
  return fault ? Explain(*fault) : OkStatus();
}

Status TargetContent::Explain(const SectorFault& fault) const {
  std::string other;
  if (fault.kind == SectorFaultKind::kMisdirected && fault.found.file != fault.expected.file &&
      fault.found.file < files_.files().size())
    other = fmt::format(" ({})", files_.files()[fault.found.file].path());
  return DataLoss(fmt::format("verify {} offset_bytes={}: {}{}",
                              files_.files()[fault.expected.file].path(),
                              fault.expected.offset_bytes(), fault.ToString(), other));
}

}  // namespace strata::aio
