// Keys of DeepSpeed's that configurations have, that change no result there and for which there is
// nothing to set here: taken, and told to have no effect.
#pragma once

#include <span>
#include <string_view>

#include "engine/config/internal/fields.h"

namespace strata::engine::config_internal {

enum class ValueKind : uint8_t { kNumber, kFlag };

struct KeyWithoutEffect {
  std::string_view key;
  ValueKind kind = ValueKind::kNumber;
  std::string_view why;  // what there is instead
};

// Of [zero_optimization], and of its offload sections.
std::span<const KeyWithoutEffect> ZeroKeysWithoutEffect();
std::span<const KeyWithoutEffect> OffloadKeysWithoutEffect();

}  // namespace strata::engine::config_internal
