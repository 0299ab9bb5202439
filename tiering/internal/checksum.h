// The checksum of everything the block store keeps: XXH3, 64 bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace strata::tiering {

uint64_t Checksum(std::span<const std::byte> bytes);

}  // namespace strata::tiering
