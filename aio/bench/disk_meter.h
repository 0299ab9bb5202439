// Many settings measured on one target.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "aio/bench/aio_setting.h"
#include "aio/bench/target.h"
#include "aio/bench/workload.h"
#include "aio/io_buffer.h"

namespace strata::aio {

// The options of an engine with the setting.
IoEngineOptions EngineOptionsOf(const AioSetting& setting, std::span<std::byte> registered_memory);

// Thread-compatible.
class DiskMeter {
 public:
  // Memory for every setting up to so many bytes of WorkloadMemoryBytes. `target` outlives it.
  static Result<DiskMeter> Create(BenchTarget& target, uint64_t memory_bytes);

  // One run with an engine of its own, made anew and gone afterwards.
  Result<WorkloadResult> Measure(const AioSetting& setting, const WorkloadOptions& options);

  std::span<std::byte> memory() const { return memory_.bytes(); }

 private:
  DiskMeter(BenchTarget& target, HugeMemory memory)
      : target_(&target), memory_(std::move(memory)) {}

  BenchTarget* target_;
  HugeMemory memory_;
};

}  // namespace strata::aio
