// Which part of the optimizer's state is updated on the device, though it is offloaded:
// [zero_optimization.offload_optimizer] ratio (DeepSpeed's Twin-Flow: the part that the CPU
// updates).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "engine/zero/state_layout.h"

namespace strata::engine {

// The units to update on the device so that the cpu updates about `ratio` of all elements: the
// first of the model, in forward's order. Backward reaches those last, when nothing is left to hide
// the cpu's updates behind. Whole units, as close as they come.
uint32_t DeviceUpdates(const StateLayout& layout, double ratio);

// Of the elements that the rank updates, those on the cpu.
double CpuShare(const StateLayout& layout, uint32_t num_device_updates);

// The number that makes the simulated step shortest; 0 where none is shorter by more than 2 %.
// `step_seconds`: with so many units on the device; none when that does not fit.
uint32_t BestDeviceUpdates(const StateLayout& layout,
                           const std::function<std::optional<double>(uint32_t)>& step_seconds);

}  // namespace strata::engine
