#include "engine/train/export_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string_view>

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

// The blocks of a store, through buffers of its own: the last used few of them.
class BlockReader {
 public:
  // capacity_bytes: of all buffers; one block always fits.
  BlockReader(const StateLayout& layout, BlockStore& store, uint64_t capacity_bytes)
      : layout_(layout), store_(store), capacity_bytes_(capacity_bytes) {}

  // Valid until the next call, and so is what the call before gave, if they fit together.
  Result<const std::byte*> Load(const StateBlock& block) {
    for (auto it = loaded_.begin(); it != loaded_.end(); ++it) {
      if (it->block != &block) continue;
      loaded_.splice(loaded_.begin(), loaded_, it);
      return loaded_.front().memory.bytes().data();
    }
    const uint64_t need = RoundUp(block.size_bytes(), aio::BufferPool::kAlignmentBytes);
    while (!loaded_.empty() && used_bytes_ + need > capacity_bytes_) DropOldest();
    STRATA_ASSIGN_OR_RETURN(aio::HugeMemory memory, aio::HugeMemory::Map(need));
    auto number = tiering::StoreBlock(&block - layout_.blocks.data());
    STRATA_RETURN_IF_ERROR(store_.StartRead(number, memory.bytes().first(need)).Finish());
    loaded_.push_front({&block, need, std::move(memory)});
    used_bytes_ += need;
    return loaded_.front().memory.bytes().data();
  }

 private:
  struct Loaded {
    const StateBlock* block = nullptr;
    uint64_t size_bytes = 0;
    aio::HugeMemory memory;
  };
  void DropOldest() {
    used_bytes_ -= loaded_.back().size_bytes;
    loaded_.pop_back();
  }

  const StateLayout& layout_;
  BlockStore& store_;
  const uint64_t capacity_bytes_;
  uint64_t used_bytes_ = 0;
  std::list<Loaded> loaded_;  // the last used first
};

// Elements of units: the weights, or in fp32 what they were rounded from.
class UnitReader {
 public:
  UnitReader(const StateLayout& layout, BlockReader blocks)
      : layout_(layout), blocks_(std::move(blocks)) {}

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
    STRATA_ASSIGN_OR_RETURN(const std::byte* remainders, blocks_.Load(block));
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

// Whole tensors, from the parts that the units have of them.
class TensorGatherer {
 public:
  TensorGatherer(const StateLayout& layout, UnitReader units, DType dtype)
      : units_(std::move(units)), dtype_(dtype) {
    for (uint32_t unit = 0; unit < layout.unit_specs.size(); ++unit)
      for (const TensorSpec& part : layout.unit_specs[unit].tensors)
        parts_[part.name].push_back({unit, &part});
  }

  // Elements [first, ...) of the tensor.
  Status Read(const TensorSpec& tensor, uint64_t first, Bytes out) {
    for (const Part& part : parts_.at(tensor.name)) {
      STRATA_RETURN_IF_ERROR(
          part.spec->is_part()
              ? ReadPart(part, first, out)
              : units_.Read(part.unit, part.spec->offset_elements + first, dtype_, out));
    }
    return OkStatus();
  }

 private:
  struct Part {
    uint32_t unit = 0;
    const TensorSpec* spec = nullptr;
  };

  // What `out` and the part have in common, row by row.
  Status ReadPart(const Part& part, uint64_t first, Bytes out) {
    const TensorSpec& spec = *part.spec;
    const uint64_t whole_cols = spec.whole_shape[1], cols = spec.shape[1];
    const uint64_t end = first + out.size() / SizeOf(dtype_);
    const uint64_t begin_row = std::max(spec.first_row, first / whole_cols);
    const uint64_t end_row = std::min(spec.first_row + spec.shape[0], CeilDiv(end, whole_cols));
    for (uint64_t row = begin_row; row < end_row; ++row) {
      const uint64_t start = row * whole_cols + spec.first_col;  // of the part's row, in the tensor
      const uint64_t from = std::max(start, first), to = std::min(start + cols, end);
      if (from >= to) continue;
      const uint64_t in_part = (row - spec.first_row) * cols + (from - start);
      STRATA_RETURN_IF_ERROR(
          units_.Read(part.unit, spec.offset_elements + in_part, dtype_,
                      out.subspan((from - first) * SizeOf(dtype_), (to - from) * SizeOf(dtype_))));
    }
    return OkStatus();
  }

  UnitReader units_;
  const DType dtype_;
  std::map<std::string_view, std::vector<Part>> parts_;
};

// What a tensor's parts are read from, so that no block is read for every row.
uint64_t LargestSublayer(const StateLayout& layout) {
  std::vector<uint64_t> unit_bytes(layout.units.size());
  for (const StateBlock& block : layout.blocks) {
    const bool is_moment = block.kind == StateKind::kM || block.kind == StateKind::kV;
    if (!is_moment)
      unit_bytes[block.unit] += RoundUp(block.size_bytes(), aio::BufferPool::kAlignmentBytes);
  }
  uint64_t largest = 0;
  for (const Sublayer& sublayer : layout.sublayers) {
    uint64_t bytes = 0;
    for (uint32_t part = 0; part < sublayer.num_parts; ++part)
      bytes += unit_bytes[sublayer.first_part + part];
    largest = std::max(largest, bytes);
  }
  return largest;
}

}  // namespace

Result<ExportRunSummary> ExportRun(const ExportRunOptions& options) {
  STRATA_ASSIGN_OR_RETURN(OpenedRun run, OpenRun(options));
  const StateLayout& layout = run.layout_only.layout;
  const DType dtype = options.dtype.value_or(layout.options.precision);
  const uint64_t capacity = LargestSublayer(layout);
  TensorGatherer tensors(layout, UnitReader(layout, BlockReader(layout, *run.store, capacity)),
                         dtype);
  ExportOptions export_options;
  export_options.directory = options.to;
  export_options.dtype = dtype;
  export_options.on_progress = options.on_progress;
  STRATA_RETURN_IF_ERROR(ExportHuggingFace(
      run.config.model.llama, UnitsOf(run.config.model.llama),
      [&](const TensorSpec& tensor, uint64_t first, Bytes out) {
        return tensors.Read(tensor, first, out);
      },
      export_options));
  return ExportRunSummary{.step = run.step,
                          .num_parameters = NumParameters(run.config.model.llama)};
}

}  // namespace strata::engine
