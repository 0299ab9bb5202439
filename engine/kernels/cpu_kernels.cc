#include "engine/kernels/cpu_kernels.h"

#include <algorithm>
#include <utility>

#include "aio/base/check.h"
#include "engine/kernels/internal/cpu_kernels.h"

namespace strata::engine {

Matrix Part(const Matrix& matrix, size_t row, size_t rows, size_t col, size_t cols) {
  Matrix part = matrix;
  part.data += (row * matrix.stride + col) * SizeOf(matrix.dtype);
  part.rows = std::min(rows, matrix.rows - row);
  part.cols = std::min(cols, matrix.cols - col);
  return part;
}

CpuKernels::CpuKernels(ThreadPool pool, const RowKernels& rows)
    : pool_(std::move(pool)),
      rows_(rows),
      multipliers_(pool_.num_threads(), Multiplier(rows)),
      tile_buffers_(pool_.num_threads()) {}

Result<std::unique_ptr<Kernels>> MakeCpuKernels(uint32_t num_threads,
                                                std::string_view instruction_set) {
  const RowKernels* rows = FindRowKernels(instruction_set);
  STRATA_CHECK(rows != nullptr);
  STRATA_ASSIGN_OR_RETURN(ThreadPool pool, ThreadPool::Create(num_threads));
  return std::unique_ptr<Kernels>(std::make_unique<CpuKernels>(std::move(pool), *rows));
}

}  // namespace strata::engine
