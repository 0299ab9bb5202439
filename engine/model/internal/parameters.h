// The tensors of one unit as matrices on its flattened weights and gradient.
#pragma once

#include <span>

#include "aio/base/check.h"
#include "engine/kernels/kernels.h"
#include "engine/model/units.h"

namespace strata::engine {

// A view: `spec` and the memory outlive it. Of a forward pass, `gradient` is empty.
class Parameters {
 public:
  Parameters(const UnitSpec& spec, DType dtype, std::span<std::byte> weights,
             std::span<std::byte> gradient)
      : spec_(spec), dtype_(dtype), weights_(weights.data()), gradient_(gradient.data()) {
    STRATA_CHECK(weights.size() >= spec.num_elements * SizeOf(dtype));
    STRATA_CHECK(gradient.empty() || gradient.size() >= spec.num_elements * sizeof(float));
  }

  // By place in the unit.
  Matrix Weight(size_t tensor) const { return View(tensor, weights_, dtype_); }
  Matrix Gradient(size_t tensor) const { return View(tensor, gradient_, DType::kF32); }
  // The norm, which comes first in every unit that has one.
  const std::byte* norm() const { return weights_; }
  float* norm_gradient() const { return reinterpret_cast<float*>(gradient_); }

 private:
  Matrix View(size_t index, std::byte* base, DType dtype) const {
    const TensorSpec& tensor = spec_.tensors[index];
    std::byte* data = base == nullptr ? nullptr : base + tensor.offset_elements * SizeOf(dtype);
    return DenseMatrix(data, dtype, tensor.shape[0], tensor.shape[1]);
  }

  const UnitSpec& spec_;
  DType dtype_;
  std::byte* weights_;
  std::byte* gradient_;
};

}  // namespace strata::engine
