// The row kernels of one instruction set, STRATA_ISA; see internal/row_kernels.h.
#pragma once

#include "engine/kernels/internal/row_kernels.h"

namespace strata::engine::STRATA_ISA {

void RmsNormForwardRows(const RmsNormRows& in, const Matrix& y);
void RmsNormBackwardRows(const RmsNormRows& in, const Matrix& dy, const Matrix& dx,
                         float* inverse_rms);
void RmsNormWeightGradientRows(const Matrix& x, const Matrix& dy, const float* inverse_rms,
                               float* weight_gradient);
void RotateRows(const RopeRows& in);
void SwiGluForwardRows(const Matrix& gate, const Matrix& up, const Matrix& out);
void SwiGluBackwardRows(const Matrix& gate, const Matrix& up, const Matrix& dout,
                        const Matrix& dgate, const Matrix& dup);
void SoftmaxStatisticsRows(const LogitRows& in, Output output, SoftmaxRow* rows);
void CrossEntropyRows(const LogitRows& in, const SoftmaxRow* rows, float gradient_scale,
                      const Matrix& dlogits);
void AddRows(const Matrix& a, const Matrix& b, const Matrix& out);
void CastRows(const Matrix& from, const Matrix& to);
void MultiplyTile(const ProductTile& tile);
size_t ProductScratchFloats(size_t rows, size_t cols);
double SumOfSquaresRow(const std::byte* x, DType dtype, size_t n);
double RoundAndSumSquaresRow(const float* x, std::byte* rounded, DType dtype, size_t n);
void ScatterAddRows(const int32_t* ids, size_t first_id, const Matrix& from, const Matrix& to);
void SoftmaxTileRows(const ScoreTile& tile, const Matrix& probabilities,
                     const RunningSoftmax& running);
void SoftmaxFinishRows(const RunningSoftmax& running, const Matrix& out, float* log_sum_exp);
void DotRows(const Matrix& a, const Matrix& b, float* dots);
void SoftmaxBackwardTileRows(const ScoreTile& tile, const float* dprobabilities,
                             const float* log_sum_exp, const float* dots,
                             const Matrix& probabilities, const Matrix& dscores);

}  // namespace strata::engine::STRATA_ISA
