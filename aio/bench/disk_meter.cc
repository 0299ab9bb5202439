#include "aio/bench/disk_meter.h"

#include <algorithm>
#include <utility>

#include "aio/bench/bench_memory.h"

namespace strata::aio {

IoEngineOptions EngineOptionsOf(const AioSetting& setting, std::span<std::byte> registered_memory) {
  return {.backend = setting.backend,
          .block_size_bytes = setting.block_size_bytes,
          .queue_depth = setting.queue_depth,
          .thread_count = setting.thread_count,
          .sqpoll = setting.sqpoll,
          .registered_memory = registered_memory};
}

Result<DiskMeter> DiskMeter::Create(BenchTarget& target, uint64_t memory_bytes) {
  STRATA_ASSIGN_OR_RETURN(HugeMemory memory, MakeBenchMemory(memory_bytes));
  return DiskMeter(target, std::move(memory));
}

Result<WorkloadResult> DiskMeter::Measure(const AioSetting& setting,
                                          const WorkloadOptions& options) {
  size_t memory_bytes = std::min<size_t>(memory().size(), WorkloadMemoryBytes(setting));
  std::span<std::byte> used = memory().first(memory_bytes);
  STRATA_ASSIGN_OR_RETURN(std::unique_ptr<IoEngine> engine,
                          IoEngine::Create(EngineOptionsOf(setting, used)));
  return RunWorkload(*target_, *engine, setting, used, options);
}

}  // namespace strata::aio
