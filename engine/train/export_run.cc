#include "engine/train/export_run.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "aio/base/units.h"
#include "engine/checkpoint/export.h"
#include "engine/model/units.h"
#include "engine/train/planning.h"
#include "engine/train/saved_state.h"

namespace strata::engine {
namespace {

using Bytes = std::span<std::byte>;

template <typename T, typename Convert>
void StoreAs(std::span<const float> values, std::byte* to, Convert convert) {
  for (size_t i = 0; i < values.size(); ++i) {
    const T converted = convert(values[i]);
    std::memcpy(to + i * sizeof(T), &converted, sizeof(T));
  }
}

void Store(std::span<const float> values, DType dtype, std::byte* to) {
  if (dtype == DType::kBf16) return StoreAs<Bf16>(values, to, ToBf16);
  if (dtype == DType::kF16) return StoreAs<F16>(values, to, ToHalf);
  std::memcpy(to, values.data(), values.size_bytes());
}

// Elements of units: the weights, or of another dtype what they were rounded from.
class UnitReader {
 public:
  UnitReader(SavedState& state, DType dtype) : state_(state), dtype_(dtype) {}

  DType dtype() const { return dtype_; }

  Status Read(uint32_t unit, uint64_t first, Bytes out) {
    const uint64_t count = out.size() / SizeOf(dtype_);
    if (dtype_ == state_.layout().options.precision)
      return state_.Read(unit, StateKind::kWeights, first, count, out);
    for (uint64_t at = 0; at < count; at += kPieceElements) {
      masters_.resize(std::min(kPieceElements, count - at));
      STRATA_RETURN_IF_ERROR(ReadMasters(state_, unit, first + at, masters_));
      Store(masters_, dtype_, out.data() + at * SizeOf(dtype_));
    }
    return OkStatus();
  }

 private:
  static constexpr uint64_t kPieceElements = 1ULL << 16;

  SavedState& state_;
  const DType dtype_;
  std::vector<float> masters_;
};

// Whole tensors, from the parts that the units have of them.
class TensorGatherer {
 public:
  TensorGatherer(const StateLayout& layout, UnitReader units) : units_(std::move(units)) {
    for (uint32_t unit = 0; unit < layout.unit_specs.size(); ++unit)
      for (const TensorSpec& part : layout.unit_specs[unit].tensors)
        parts_[part.name].push_back({unit, &part});
  }

  // Elements [first, ...) of the tensor.
  Status Read(const TensorSpec& tensor, uint64_t first, Bytes out) {
    for (const Part& part : parts_.at(tensor.name)) {
      STRATA_RETURN_IF_ERROR(part.spec->is_part()
                                 ? ReadPart(part, first, out)
                                 : units_.Read(part.unit, part.spec->offset_elements + first, out));
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
    const uint64_t end = first + out.size() / SizeOf(units_.dtype());
    const uint64_t begin_row = std::max(spec.first_row, first / whole_cols);
    const uint64_t end_row = std::min(spec.first_row + spec.shape[0], CeilDiv(end, whole_cols));
    for (uint64_t row = begin_row; row < end_row; ++row) {
      const uint64_t start = row * whole_cols + spec.first_col;  // of the part's row, in the tensor
      const uint64_t from = std::max(start, first), to = std::min(start + cols, end);
      if (from >= to) continue;
      const uint64_t in_part = (row - spec.first_row) * cols + (from - start);
      STRATA_RETURN_IF_ERROR(units_.Read(part.unit, spec.offset_elements + in_part,
                                         out.subspan((from - first) * SizeOf(units_.dtype()),
                                                     (to - from) * SizeOf(units_.dtype()))));
    }
    return OkStatus();
  }

  UnitReader units_;
  std::map<std::string_view, std::vector<Part>> parts_;
};

}  // namespace

Result<ExportRunSummary> ExportRun(const ExportRunOptions& options) {
  STRATA_ASSIGN_OR_RETURN(SavedRun run, OpenSavedRun(options.run_dir, options.step));
  const StateLayout& layout = run.state->layout();
  const DType dtype = options.dtype.value_or(layout.options.precision);
  TensorGatherer tensors(layout, UnitReader(*run.state, dtype));
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
  return ExportRunSummary{.step = run.state->record().step,
                          .num_parameters = NumParameters(run.config.model.llama)};
}

}  // namespace strata::engine
