// How fast a device copies from and to host memory.
#pragma once

#include <cstddef>
#include <span>

#include "aio/base/status.h"
#include "tiering/device.h"

namespace strata::tiering {

struct CopyRates {
  double in_bytes_per_s = 0;  // one direction alone
  double out_bytes_per_s = 0;
  double both_bytes_per_s = 0;  // the sum of both directions at once
};

// Medians of a few copies of half the smaller memory, which is overwritten. `host` is registered
// with the device if its copies are to be what training's are.
Result<CopyRates> MeasureCopyRates(Device& device, std::span<std::byte> host);

}  // namespace strata::tiering
