#include "engine/kernels/rows/declarations.h"

namespace strata::engine::STRATA_ISA {

extern const RowKernels kRowKernels;
const RowKernels kRowKernels = {
    .multiply_tile = &MultiplyTile,
    .product_scratch_floats = &ProductScratchFloats,
    .rms_norm_forward = &RmsNormForwardRows,
    .rms_norm_backward = &RmsNormBackwardRows,
    .rms_norm_weight_gradient = &RmsNormWeightGradientRows,
    .rope = &RotateRows,
    .swiglu_forward = &SwiGluForwardRows,
    .swiglu_backward = &SwiGluBackwardRows,
    .softmax_statistics = &SoftmaxStatisticsRows,
    .cross_entropy = &CrossEntropyRows,
    .add = &AddRows,
    .cast = &CastRows,
    .sum_of_squares = &SumOfSquaresRow,
    .round_and_sum_squares = &RoundAndSumSquaresRow,
    .scatter_add = &ScatterAddRows,
    .softmax_tile = &SoftmaxTileRows,
    .softmax_finish = &SoftmaxFinishRows,
    .row_dots = &DotRows,
    .softmax_backward_tile = &SoftmaxBackwardTileRows,
};

}  // namespace strata::engine::STRATA_ISA
