// Attention on CUDA: what Kernels::AttentionForward and AttentionBackward are (engine/kernels).
//
// Two implementations of one definition, chosen by shape and format alone:
// attention_forward.cu and attention_backward.cu multiply on tensor cores (formats of 16 bits,
// heads of up to 128 elements, a multiple of 8, with rows aligned to 16 bytes); attention_plain.cu
// multiplies in fp32 whatever comes. Neither has scores in memory, nor atomics: a sum is made by
// one block, in an order that depends on the shape alone.
#pragma once

#include <cstddef>
#include <span>

#include "aio/base/status.h"
#include "engine/kernels/kernels.h"

namespace strata::engine::cuda {

// Whether heads are multiplied on tensor cores, if their rows are aligned as those of a model are.
bool HeadsSuitTensorCores(size_t head_dim, DType dtype);

// Of any GPU: one number per row and head.
size_t AttentionWorkspaceBytes(const AttentionShape& shape);

Status AttentionForward(const Kernels::Stream& stream, const AttentionShape& shape, const Matrix& q,
                        const Matrix& k, const Matrix& v, const Matrix& out, float* log_sum_exp);
Status AttentionBackward(const Kernels::Stream& stream, const AttentionShape& shape,
                         const Matrix& q, const Matrix& k, const Matrix& v, const Matrix& out,
                         const float* log_sum_exp, const Matrix& dout, const Matrix& dq,
                         const Matrix& dk, const Matrix& dv, std::span<std::byte> workspace);

}  // namespace strata::engine::cuda
