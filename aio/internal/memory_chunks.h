// Memory that the kernel has been told of in advance, in chunks of bounded size.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "aio/base/units.h"

namespace strata::aio {

// A value; thread-safe. No chunk's border lies inside what BytesToBorder allows.
class MemoryChunks {
 public:
  static constexpr uint64_t kMaxChunkBytes = uint64_t{1} << 30;  // what one registration may hold

  MemoryChunks() = default;
  explicit MemoryChunks(std::span<std::byte> memory, uint64_t chunk_bytes = kMaxChunkBytes)
      : memory_(memory), chunk_bytes_(chunk_bytes) {}

  uint64_t size_bytes() const { return memory_.size(); }
  uint32_t num_chunks() const {
    return static_cast<uint32_t>(CeilDiv(memory_.size(), chunk_bytes_));
  }
  std::span<std::byte> chunk(uint32_t index) const {
    uint64_t first = index * chunk_bytes_;
    return memory_.subspan(first, std::min(chunk_bytes_, memory_.size() - first));
  }

  // The chunk `address` lies in.
  std::optional<uint32_t> IndexOf(const std::byte* address) const {
    if (address < begin() || address >= end()) return std::nullopt;
    return static_cast<uint32_t>(static_cast<uint64_t>(address - begin()) / chunk_bytes_);
  }

  // How far one may go from `address` before a chunk begins or ends.
  uint64_t BytesToBorder(const std::byte* address) const {
    if (std::optional<uint32_t> index = IndexOf(address)) {
      std::span<std::byte> inside = chunk(*index);
      return static_cast<uint64_t>(inside.data() + inside.size() - address);
    }
    return address < begin() ? static_cast<uint64_t>(begin() - address) : UINT64_MAX;
  }

 private:
  const std::byte* begin() const { return memory_.data(); }
  const std::byte* end() const { return memory_.data() + memory_.size(); }

  std::span<std::byte> memory_;
  uint64_t chunk_bytes_ = kMaxChunkBytes;
};

}  // namespace strata::aio
