#include "engine/train/export_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#include "aio/base/units.h"
#include "aio/io_buffer.h"
#include "aio/io_engine.h"
#include "engine/checkpoint/export.h"
#include "engine/config/run_config.h"
#include "engine/optimizer/split_master.h"
#include "engine/train/planning.h"
#include "engine/train/run_directory.h"
#include "engine/train/run_record.h"
#include "engine/zero/state_layout.h"
#include "tiering/block_store.h"

namespace strata::engine {
namespace {

using Bytes = std::span<std::byte>;
using tiering::BlockStore;

// The blocks of a store, one at a time, through a buffer of its own.
class BlockReader {
 public:
  BlockReader(const StateLayout& layout, BlockStore& store, aio::HugeMemory buffer)
      : layout_(layout), store_(store), buffer_(std::move(buffer)) {}

  // Valid until the next call.
  Result<const std::byte*> Load(const StateBlock& block) {
    if (loaded_ == &block) return buffer_.bytes().data();
    loaded_ = nullptr;
    auto number = tiering::StoreBlock(&block - layout_.blocks.data());
    Bytes into =
        buffer_.bytes().first(RoundUp(block.size_bytes(), aio::BufferPool::kAlignmentBytes));
    STRATA_RETURN_IF_ERROR(store_.StartRead(number, into).Finish());
    loaded_ = &block;
    return buffer_.bytes().data();
  }

 private:
  const StateLayout& layout_;
  BlockStore& store_;
  aio::HugeMemory buffer_;
  const StateBlock* loaded_ = nullptr;
};

// Elements of units: the weights, or in fp32 what they were rounded from.
class UnitReader {
 public:
  // `remainders` reads what masters lack beside the weights; that in format fp32 is nothing.
  UnitReader(const StateLayout& layout, BlockReader blocks, BlockReader remainders)
      : layout_(layout), blocks_(std::move(blocks)), remainders_(std::move(remainders)) {}

  Status Read(uint32_t unit, uint64_t first, DType dtype, Bytes out) {
    uint64_t count = out.size() / SizeOf(dtype);
    while (count > 0) {
      const StateBlock& block = BlockFor(unit, first, dtype);
      uint64_t now = std::min(count, block.first_element + block.num_elements - first);
      STRATA_RETURN_IF_ERROR(ReadFrom(block, first, now, dtype, out.data()));
      out = out.subspan(now * SizeOf(dtype));
      first += now;
      count -= now;
    }
    return OkStatus();
  }

 private:
  const StateBlock& BlockFor(uint32_t unit, uint64_t element, DType dtype) const {
    const UnitState& state = layout_.units[unit];
    if (dtype == layout_.options.precision) return layout_.blocks[state.weights];
    for (const UnitState::Chunk& chunk : state.chunks) {
      if (element < chunk.first_element + chunk.num_elements) return layout_.blocks[chunk.master];
    }
    STRATA_CHECK(false);
  }

  Status ReadFrom(const StateBlock& block, uint64_t first, uint64_t count, DType dtype,
                  std::byte* out) {
    if (block.kind == StateKind::kRemainder) return Join(block, first, count, out);
    bool is_master = block.kind == StateKind::kMaster;
    DType from = is_master ? DType::kF32 : layout_.options.precision;
    STRATA_ASSIGN_OR_RETURN(const std::byte* content, blocks_.Load(block));
    Convert(content + (first - block.first_element) * SizeOf(from), from, count, dtype, out);
    return OkStatus();
  }

  Status Join(const StateBlock& block, uint64_t first, uint64_t count, std::byte* out) {
    STRATA_ASSIGN_OR_RETURN(const std::byte* remainders, remainders_.Load(block));
    STRATA_ASSIGN_OR_RETURN(const std::byte* weights,
                            blocks_.Load(layout_.blocks[layout_.units[block.unit].weights]));
    const auto* high = reinterpret_cast<const Bf16*>(weights) + first;
    const auto* low = reinterpret_cast<const int16_t*>(remainders) + (first - block.first_element);
    for (uint64_t i = 0; i < count; ++i) {
      float value = JoinMaster(high[i], low[i]);
      std::memcpy(out + i * sizeof(float), &value, sizeof(float));
    }
    return OkStatus();
  }

  static void Convert(const std::byte* from, DType from_dtype, uint64_t count, DType to_dtype,
                      std::byte* to) {
    if (from_dtype == to_dtype) {
      std::memcpy(to, from, count * SizeOf(to_dtype));
      return;
    }
    STRATA_CHECK(from_dtype == DType::kF32 && to_dtype == DType::kBf16);
    for (uint64_t i = 0; i < count; ++i) {
      float value;
      std::memcpy(&value, from + i * sizeof(float), sizeof(float));
      Bf16 rounded = ToBf16(value);
      std::memcpy(to + i * sizeof(Bf16), &rounded, sizeof(Bf16));
    }
  }

  const StateLayout& layout_;
  BlockReader blocks_;
  BlockReader remainders_;
};

struct OpenedRun {
  RunConfig config;
  PlannedRun layout_only;
  std::unique_ptr<aio::IoEngine> engine;
  std::unique_ptr<BlockStore> store;
  uint64_t step = 0;
};

Result<std::optional<uint64_t>> GenerationOf(const std::vector<tiering::Generation>& generations,
                                             std::optional<uint64_t> step) {
  if (!step.has_value()) return std::optional<uint64_t>();
  std::string known;
  for (const tiering::Generation& generation : generations) {
    STRATA_ASSIGN_OR_RETURN(RunRecord record, ParseRunRecord(generation.metadata));
    if (record.step == *step) return std::optional<uint64_t>(generation.number);
    known += fmt::format(" {}", record.step);
  }
  return NotFound(
      fmt::format("the run has no state of step {}; it has those of steps:{}", *step, known));
}

Result<OpenedRun> OpenRun(const ExportRunOptions& options) {
  OpenedRun run;
  STRATA_ASSIGN_OR_RETURN(RunDirectory directory, RunDirectory::Open(options.run_dir));
  STRATA_ASSIGN_OR_RETURN(run.config, LoadRunConfig(options.run_dir + "/config.toml"));
  if (run.config.train.world_size != 1) {
    return Unimplemented("exporting a run of several ranks is not supported yet");
  }
  STRATA_ASSIGN_OR_RETURN(run.layout_only, PrepareRun(run.config));
  std::vector<std::string> paths = StoreDirectoriesOf(run.config);
  STRATA_ASSIGN_OR_RETURN(std::vector<tiering::Generation> generations,
                          BlockStore::List(paths, directory.run_id(), /*rank=*/0));
  STRATA_ASSIGN_OR_RETURN(std::optional<uint64_t> generation,
                          GenerationOf(generations, options.step));
  STRATA_ASSIGN_OR_RETURN(run.engine, aio::IoEngine::Create({.backend = aio::IoBackend::kPosix}));
  std::vector<tiering::BlockDescription> blocks;
  for (const StateBlock& block : run.layout_only.layout.blocks) {
    blocks.push_back({.name = block.name, .size_bytes = block.size_bytes()});
  }
  STRATA_ASSIGN_OR_RETURN(
      run.store,
      BlockStore::Open({.directories = paths, .run_id = directory.run_id(), .read_only = true},
                       std::move(blocks), run.engine.get(), generation));
  std::string metadata = run.store->generations().back().metadata;
  for (const tiering::Generation& known : generations) {
    if (generation.has_value() && known.number == *generation) metadata = known.metadata;
  }
  STRATA_ASSIGN_OR_RETURN(RunRecord record, ParseRunRecord(metadata));
  run.step = record.step;
  return run;
}

uint64_t LargestBlock(const StateLayout& layout) {
  uint64_t largest = 0;
  for (const StateBlock& block : layout.blocks) largest = std::max(largest, block.size_bytes());
  return RoundUp(largest, aio::BufferPool::kAlignmentBytes);
}

// The unit that a tensor belongs to. Names are unique.
uint32_t UnitOf(const StateLayout& layout, const TensorSpec& tensor) {
  for (uint32_t unit = 0; unit < layout.unit_specs.size(); ++unit) {
    for (const TensorSpec& candidate : layout.unit_specs[unit].tensors) {
      if (candidate.name == tensor.name) return unit;
    }
  }
  STRATA_CHECK(false);
}

}  // namespace

Result<ExportRunSummary> ExportRun(const ExportRunOptions& options) {
  STRATA_ASSIGN_OR_RETURN(OpenedRun run, OpenRun(options));
  const StateLayout& layout = run.layout_only.layout;
  STRATA_ASSIGN_OR_RETURN(aio::HugeMemory buffer, aio::HugeMemory::Map(LargestBlock(layout)));
  STRATA_ASSIGN_OR_RETURN(aio::HugeMemory more, aio::HugeMemory::Map(LargestBlock(layout)));
  UnitReader reader(layout, {layout, *run.store, std::move(buffer)},
                    {layout, *run.store, std::move(more)});
  DType dtype = options.dtype.value_or(layout.options.precision);
  ExportOptions export_options;
  export_options.directory = options.to;
  export_options.dtype = dtype;
  export_options.on_progress = options.on_progress;
  STRATA_RETURN_IF_ERROR(ExportHuggingFace(
      run.config.model.llama, layout.unit_specs,
      [&](const TensorSpec& tensor, uint64_t first, Bytes out) {
        uint32_t unit = UnitOf(layout, tensor);
        return reader.Read(unit, tensor.offset_elements + first, dtype, out);
      },
      export_options));
  return ExportRunSummary{.step = run.step,
                          .num_parameters = NumParameters(run.config.model.llama)};
}

}  // namespace strata::engine
