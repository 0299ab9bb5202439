#include "engine/config/device_choice.h"

#include <charconv>

namespace strata::engine {

std::optional<DeviceChoice> ParseDeviceChoice(std::string_view text) {
  DeviceChoice choice;
  if (text == "auto") return choice;
  choice.kind = DeviceChoice::Kind::kCpu;
  if (text == "cpu") return choice;
  choice.kind = DeviceChoice::Kind::kCuda;
  if (text == "cuda") return choice;
  constexpr std::string_view kOneGpu = "cuda:";
  if (!text.starts_with(kOneGpu)) return std::nullopt;
  text.remove_prefix(kOneGpu.size());
  constexpr uint32_t kMostGpus = 1024;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), choice.gpu.emplace());
  if (error != std::errc() || end != text.data() + text.size() || *choice.gpu >= kMostGpus)
    return std::nullopt;
  return choice;
}

std::string ToText(const DeviceChoice& choice) {
  switch (choice.kind) {
    case DeviceChoice::Kind::kAuto:
      return "auto";
    case DeviceChoice::Kind::kCpu:
      return "cpu";
    case DeviceChoice::Kind::kCuda:
      break;
  }
  return choice.gpu ? "cuda:" + std::to_string(*choice.gpu) : "cuda";
}

}  // namespace strata::engine
