// The three places a byte can live.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace strata::tiering {

enum class Tier : uint8_t { kDevice, kHost, kNvme };
inline constexpr size_t kNumTiers = 3;

constexpr std::string_view TierName(Tier tier) {
  constexpr std::array<std::string_view, kNumTiers> kNames = {"device", "host", "nvme"};
  return kNames[static_cast<size_t>(tier)];
}

}  // namespace strata::tiering
