#include "aio/bench/workload.h"

#include <fmt/format.h>

#include <algorithm>

#include "aio/base/check.h"
#include "aio/base/units.h"
#include "aio/bench/internal/block_walk.h"
#include "aio/bench/internal/request_window.h"
#include "aio/bench/internal/stopwatch.h"
#include "aio/bench/internal/usage.h"
#include "aio/bench/internal/window_plan.h"

namespace strata::aio {
namespace {

// How many of the target's blocks belong to the reads; the others belong to the writes.
uint64_t BlocksToRead(uint64_t num_blocks, const Mix& mix) {
  if (mix.writes == 0) return num_blocks;
  if (mix.reads == 0) return 0;
  uint64_t blocks = num_blocks * mix.reads / (uint64_t{mix.reads} + mix.writes);
  return std::clamp<uint64_t>(blocks, 1, num_blocks - 1);
}

// The blocks that may be in flight: of either direction not more than it has.
uint64_t MaxBlocksInFlight(uint64_t num_blocks, uint64_t to_read, uint64_t memory_blocks) {
  uint64_t to_write = num_blocks - to_read;
  uint64_t smaller = to_read == 0 || to_write == 0 ? num_blocks : std::min(to_read, to_write);
  return std::min(smaller, memory_blocks);
}

Status CheckSize(const BenchTarget& target, const AioSetting& setting, const Mix& mix) {
  bool is_mixed = mix.reads > 0 && mix.writes > 0;
  uint64_t wanted_bytes = setting.block_size_bytes * (is_mixed ? 2 : 1);
  if (target.size_bytes() >= wanted_bytes) return OkStatus();
  return InvalidArgument(fmt::format(
      "{} of data are too few for blocks of {}: ask for {} or more (--size), or smaller blocks",
      FormatBytes(target.size_bytes()), FormatBytes(setting.block_size_bytes),
      FormatBytes(wanted_bytes)));
}

class Run {
 public:
  Run(BenchTarget& target, IoEngine& engine, const AioSetting& setting,
      const WorkloadOptions& options)
      : target_(target),
        engine_(engine),
        block_bytes_(setting.block_size_bytes),
        options_(options),
        num_blocks_(target.size_bytes() / block_bytes_),
        to_read_(BlocksToRead(num_blocks_, options.mix)),
        reads_(0, to_read_, options.order, options.seed),
        writes_(to_read_, num_blocks_ - to_read_, options.order, options.seed + 1) {}

  Result<WorkloadResult> Measure(const AioSetting& setting, std::span<std::byte> memory) {
    WindowPlan plan =
        PlanWindow(setting, MaxBlocksInFlight(num_blocks_, to_read_, memory.size() / block_bytes_));
    blocks_per_slot_ = plan.blocks_per_slot;
    Stopwatch watch(engine_, options_);
    watch_ = &watch;
    Status status = RunWindow(
        {.memory = memory,
         .slot_bytes = plan.blocks_per_slot * block_bytes_,
         .num_slots = plan.num_slots},
        [this](WindowSlot& slot) { return Start(slot); },
        [this](WindowSlot& slot) { return Finish(slot); }, options_.stop);
    if (!status.ok() && status.code() != Code::kCancelled) return status;
    watch.Stop();
    WorkloadResult result = watch.Result();
    result.stopped = status.code() == Code::kCancelled;
    return result;
  }

 private:
  // Whoever is behind its share goes next.
  IoDirection NextDirection() const {
    if (options_.mix.writes == 0) return IoDirection::kRead;
    if (options_.mix.reads == 0) return IoDirection::kWrite;
    return started_reads_ * options_.mix.writes <= started_writes_ * options_.mix.reads
               ? IoDirection::kRead
               : IoDirection::kWrite;
  }

  bool Start(WindowSlot& slot) {
    if (over_) return false;
    slot.direction = NextDirection();
    BlockWalk::Steps steps = WalkOf(slot).Take(blocks_per_slot_);
    (slot.direction == IoDirection::kRead ? started_reads_ : started_writes_) += steps.count;
    slot.first = steps.first;
    slot.length_bytes = steps.count * block_bytes_;
    slot.direction == IoDirection::kRead ? StartReads(slot) : StartWrites(slot);
    return true;
  }

  void StartReads(WindowSlot& slot) {
    std::vector<ReadRange> ranges;
    VisitRanges(slot, [&](uint64_t offset_bytes, std::span<std::byte> memory) {
      for (const ReadRange& range : target_.files().Reads(offset_bytes, memory))
        ranges.push_back(range);
    });
    slot.ticket = engine_.StartReads(ranges);
  }

  void StartWrites(WindowSlot& slot) {
    std::vector<WriteRange> ranges;
    VisitRanges(slot, [&](uint64_t offset_bytes, std::span<std::byte> memory) {
      MakeData(offset_bytes, memory);
      for (const WriteRange& range : target_.files().Writes(offset_bytes, memory))
        ranges.push_back(range);
    });
    slot.ticket = engine_.StartWrites(ranges);
  }

  void MakeData(uint64_t offset_bytes, std::span<std::byte> memory) {
    if (options_.written == WrittenData::kRepeated) return;
    if (options_.check == DataCheck::kOff) return target_.StampForWrite(offset_bytes, memory);
    ThreadCpuTimer timer(watch_->check_cpu_s());
    target_.FillForWrite(offset_bytes, memory);
  }

  Status Finish(WindowSlot& slot) {
    if (slot.direction == IoDirection::kRead && options_.check == DataCheck::kOn)
      STRATA_RETURN_IF_ERROR(CheckData(slot));
    over_ = !watch_->Tick();
    return OkStatus();
  }

  Status CheckData(const WindowSlot& slot) {
    ThreadCpuTimer timer(watch_->check_cpu_s());
    Status status;
    VisitRanges(slot, [&](uint64_t offset_bytes, std::span<std::byte> memory) {
      if (status.ok()) status = target_.Check(offset_bytes, memory);
    });
    return status;
  }

  // Sequential: all of the slot at once; random: block by block.
  template <typename Visit>
  void VisitRanges(const WindowSlot& slot, Visit&& visit) const {
    const BlockWalk& walk = slot.direction == IoDirection::kRead ? reads_ : writes_;
    std::span<std::byte> memory = slot.memory.first(slot.length_bytes);
    if (options_.order == AccessOrder::kSequential)
      return visit(walk.BlockAt(slot.first) * block_bytes_, memory);
    for (uint64_t i = 0; i < slot.length_bytes / block_bytes_; ++i)
      visit(walk.BlockAt(slot.first + i) * block_bytes_,
            memory.subspan(i * block_bytes_, block_bytes_));
  }

  BlockWalk& WalkOf(const WindowSlot& slot) {
    return slot.direction == IoDirection::kRead ? reads_ : writes_;
  }

  BenchTarget& target_;
  IoEngine& engine_;
  const uint64_t block_bytes_;
  const WorkloadOptions& options_;
  const uint64_t num_blocks_;
  const uint64_t to_read_;
  BlockWalk reads_;
  BlockWalk writes_;
  uint64_t blocks_per_slot_ = 1;
  uint64_t started_reads_ = 0;
  uint64_t started_writes_ = 0;
  Stopwatch* watch_ = nullptr;
  bool over_ = false;
};

}  // namespace

Mix MixOf(Traffic traffic) {
  if (traffic == Traffic::kRead) return {.reads = 1, .writes = 0};
  if (traffic == Traffic::kWrite) return {.reads = 0, .writes = 1};
  return {.reads = 50, .writes = 50};
}

std::string DescribeMix(const Mix& mix) {
  if (mix.writes == 0) return "read";
  if (mix.reads == 0) return "write";
  return fmt::format("mixed {}:{}", mix.reads, mix.writes);
}

uint64_t WorkloadMemoryBytes(const AioSetting& setting) {
  return PlanWindow(setting, UINT64_MAX).blocks() * setting.block_size_bytes;
}

Result<WorkloadResult> RunWorkload(BenchTarget& target, IoEngine& engine, const AioSetting& setting,
                                   std::span<std::byte> memory, const WorkloadOptions& options) {
  STRATA_CHECK(options.mix.reads > 0 || options.mix.writes > 0);
  STRATA_CHECK(memory.size() >= setting.block_size_bytes);
  STRATA_CHECK(options.check == DataCheck::kOff || options.written == WrittenData::kUnique);
  if (options.mix.writes > 0 || options.check == DataCheck::kOn)
    STRATA_RETURN_IF_ERROR(target.CheckWritable());
  STRATA_RETURN_IF_ERROR(CheckSize(target, setting, options.mix));
  return Run(target, engine, setting, options).Measure(setting, memory);
}

}  // namespace strata::aio
