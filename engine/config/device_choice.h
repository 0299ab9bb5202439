// [train] device: what the steps of a run are computed on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace strata::engine {

struct DeviceChoice {
  enum class Kind : uint8_t {
    kAuto,  // a GPU where there is one, and what is needed to use it; else the cores
    kCpu,
    kCuda,
  };
  Kind kind = Kind::kAuto;
  std::optional<uint32_t> gpu = {};  // as CUDA counts; none: by the rank's place on its node

  friend bool operator==(const DeviceChoice&, const DeviceChoice&) = default;
};

// "auto", "cpu", "cuda" or "cuda:N"; none of other texts.
std::optional<DeviceChoice> ParseDeviceChoice(std::string_view text);
std::string ToText(const DeviceChoice& choice);

}  // namespace strata::engine
