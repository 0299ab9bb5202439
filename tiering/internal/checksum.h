// The checksum of everything the block store keeps: XXH3, 64 bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace strata::tiering {

uint64_t Checksum(std::span<const std::byte> bytes);

// The same of bytes that come in pieces.
class ChecksumOfPieces {
 public:
  ChecksumOfPieces();
  ~ChecksumOfPieces();
  void Add(std::span<const std::byte> piece);
  uint64_t Value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace strata::tiering
