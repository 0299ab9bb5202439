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
#include "engine/train/planning.h"
#include "engine/train/run_directory.h"
#include "engine/train/run_record.h"
#include "engine/zero/state_layout.h"
#include "tiering/block_store.h"

namespace strata::engine {
namespace {

using Bytes = std::span<std::byte>;
using tiering::BlockStore;

// Elements of units, out of the store, through one buffer that holds one block.
class UnitReader {
 public:
  UnitReader(const StateLayout& layout, BlockStore& store, aio::HugeMemory buffer)
      : layout_(layout), store_(store), buffer_(std::move(buffer)) {}

  Status Read(uint32_t unit, uint64_t first, DType dtype, Bytes out) {
    uint64_t count = out.size() / SizeOf(dtype);
    while (count > 0) {
      const StateBlock& block = BlockFor(unit, first, dtype);
      STRATA_RETURN_IF_ERROR(Load(block));
      uint64_t in_block = first - block.first_element;
      uint64_t now = std::min(count, block.num_elements - in_block);
      Convert(buffer_.bytes().data() + in_block * SizeOf(block.dtype), block.dtype, now, dtype,
              out.data());
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

  Status Load(const StateBlock& block) {
    if (loaded_ == &block) return OkStatus();
    loaded_ = nullptr;
    auto number = tiering::StoreBlock(&block - layout_.blocks.data());
    Bytes into =
        buffer_.bytes().first(RoundUp(block.size_bytes(), aio::BufferPool::kAlignmentBytes));
    STRATA_RETURN_IF_ERROR(store_.StartRead(number, into).Finish());
    loaded_ = &block;
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
  BlockStore& store_;
  aio::HugeMemory buffer_;
  const StateBlock* loaded_ = nullptr;
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
  UnitReader reader(layout, *run.store, std::move(buffer));
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
