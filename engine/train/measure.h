// Measures the rates that a step plan is simulated and bounded with, each alone, on the memory and
// the drives that the run will use.
#pragma once

#include <string>

#include "aio/base/status.h"
#include "aio/io_engine.h"
#include "engine/train/planning.h"
#include "prefetch/hardware.h"
#include "tiering/arena.h"
#include "tiering/device.h"

namespace strata::engine {

// Takes a few seconds; overwrites device and host memory; leaves no file behind.
Result<prefetch::Hardware> MeasureHardware(const PlannedRun& run, tiering::Device& device,
                                           const tiering::Arena& host, aio::IoEngine& engine);

// The drive alone: reads, writes, and both at once, on a temporary file in `directory` that is
// removed again. Fills the nvme rates of `hardware`. `memory` is the engine's registered memory.
Status MeasureDrive(const std::string& directory, std::span<std::byte> memory,
                    aio::IoEngine& engine, prefetch::Hardware& hardware);

// A [hardware] section for a configuration file.
std::string ToToml(const prefetch::Hardware& hardware);

}  // namespace strata::engine
