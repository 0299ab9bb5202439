// Products that need no library.
#pragma once

#include "aio/base/status.h"
#include "engine/kernels/kernels.h"

namespace strata::engine::cuda {

// Kernels::MatMul of any shape, stride and alignment, in fp32 on the cores of a GPU, in ascending
// order of the depth. Far from what tensor cores do: for what cuBLASLt has no algorithm for. Shapes
// are checked by the caller; `out` is fp32 or of the format of a and b.
Status PlainProduct(const Kernels::Stream& stream, const Matrix& a, Transpose transpose_a,
                    const Matrix& b, Transpose transpose_b, const Matrix& out, Output output);

}  // namespace strata::engine::cuda
