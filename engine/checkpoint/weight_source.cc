#include "engine/checkpoint/weight_source.h"

#include <algorithm>

namespace strata::engine {

Status ReadTensor(WeightSource& source, const TensorSpec& tensor, uint64_t first,
                  std::span<float> out) {
  if (!tensor.is_part()) return source.Read(tensor, first, out);
  const TensorSpec whole = WholeTensor(tensor);
  const uint64_t cols = tensor.shape[1];
  const uint64_t whole_cols = whole.shape[1];
  while (!out.empty()) {
    const uint64_t row = first / cols, col = first % cols;
    // Whole rows lie one after the other.
    const uint64_t run = cols == whole_cols ? out.size() : std::min(out.size(), cols - col);
    STRATA_RETURN_IF_ERROR(source.Read(
        whole, (tensor.first_row + row) * whole_cols + tensor.first_col + col, out.first(run)));
    first += run;
    out = out.subspan(run);
  }
  return OkStatus();
}

}  // namespace strata::engine
