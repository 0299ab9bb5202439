// Measures the rates that a step plan is simulated and bounded with, each alone, on the memory and
// the drives that the run will use.
#pragma once

#include <string>

#include "aio/base/status.h"
#include "aio/io_engine.h"
#include "engine/comm/communicator.h"
#include "engine/train/planning.h"
#include "prefetch/hardware.h"
#include "tiering/arena.h"
#include "tiering/device.h"

namespace strata::engine {

struct MeasureParts {
  tiering::Device* device = nullptr;
  const tiering::Arena* host = nullptr;
  aio::IoEngine* engine = nullptr;
  // Of ranks that share their devices' memory (Communicator::ShareMemory), or one rank alone.
  Communicator* communicator = nullptr;
};

// Takes some seconds; overwrites device and host memory; leaves no file behind. Called by all
// ranks: they measure at the same time, so that each finds its share of what they share.
Result<prefetch::Hardware> MeasureHardware(const PlannedRun& run, const MeasureParts& parts);

// The drive alone: reads, writes, and both at once, on a temporary file in `directory` that is
// removed again. Fills the nvme rates of `hardware`. `memory` is the engine's registered memory.
Status MeasureDrive(const std::string& directory, std::span<std::byte> memory,
                    aio::IoEngine& engine, prefetch::Hardware& hardware);

// A [hardware] section for a configuration file.
std::string ToToml(const prefetch::Hardware& hardware);

}  // namespace strata::engine
