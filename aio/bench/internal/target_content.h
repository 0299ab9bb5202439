// What every sector of a target holds.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "aio/base/status.h"
#include "aio/bench/pattern.h"
#include "aio/striped_file.h"

namespace strata::aio {

// Thread-compatible. Ranges are whole sectors of the logical range.
class TargetContent {
 public:
  // `files` outlives it.
  TargetContent(const StripedFile& files, uint64_t size_bytes, uint64_t seed);

  // The first write of a sector is generation 1; 0 is none.
  void FillForWrite(uint64_t offset_bytes, std::span<std::byte> bytes);
  void StampForWrite(uint64_t offset_bytes, std::span<std::byte> bytes);
  Status Check(uint64_t offset_bytes, std::span<const std::byte> bytes) const;

 private:
  template <typename Visit>  // (SectorId first, size_t at_bytes, size_t length_bytes)
  void VisitRuns(uint64_t offset_bytes, uint64_t length_bytes, Visit&& visit) const;
  void CountWrite(uint64_t offset_bytes, uint64_t length_bytes);
  Status Explain(const SectorFault& fault) const;

  const StripedFile& files_;
  uint64_t seed_;
  std::vector<uint32_t> generations_;  // by sector of the logical range
};

}  // namespace strata::aio
