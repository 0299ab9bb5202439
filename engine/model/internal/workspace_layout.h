// Cuts a workspace into buffers. The same calls on no memory give the size that is needed, so that
// size and use cannot disagree.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "aio/base/check.h"
#include "aio/base/units.h"
#include "engine/kernels/kernels.h"

namespace strata::engine {

class WorkspaceLayout {
 public:
  WorkspaceLayout() = default;  // only counts; what it hands out must not be touched
  explicit WorkspaceLayout(std::span<std::byte> memory) : memory_(memory), counts_only_(false) {}

  std::span<std::byte> Take(uint64_t size_bytes) {
    const uint64_t begin = used_bytes_;
    used_bytes_ = RoundUp(begin + size_bytes, kAlignmentBytes);
    peak_bytes_ = std::max(peak_bytes_, used_bytes_);
    if (counts_only_) return {};
    STRATA_CHECK(used_bytes_ <= memory_.size());
    return memory_.subspan(begin, size_bytes);
  }
  Matrix TakeMatrix(DType dtype, uint64_t rows, uint64_t cols) {
    return DenseMatrix(Take(rows * cols * SizeOf(dtype)).data(), dtype, rows, cols);
  }

  // Gives back all that was taken since used_bytes() was `mark`: later buffers share its place.
  void Rewind(uint64_t mark) { used_bytes_ = mark; }
  uint64_t used_bytes() const { return used_bytes_; }
  // The most that was taken at once.
  uint64_t peak_bytes() const { return peak_bytes_; }

 private:
  static constexpr uint64_t kAlignmentBytes = 256;

  std::span<std::byte> memory_;
  bool counts_only_ = true;
  uint64_t used_bytes_ = 0;
  uint64_t peak_bytes_ = 0;
};

}  // namespace strata::engine
