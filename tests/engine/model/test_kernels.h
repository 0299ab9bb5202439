// The implementations of the kernels that the model is tested on.
#pragma once

#include <memory>
#include <string_view>

#include "engine/kernels/cpu_kernels.h"
#include "engine/kernels/kernels.h"
#include "tests/fakes/reference_kernels.h"

namespace strata::engine {

enum class TestKernels { kReference, kCpu };
inline constexpr TestKernels kAllTestKernels[] = {TestKernels::kReference, TestKernels::kCpu};

inline constexpr DType kFormats[] = {DType::kF32, DType::kF16, DType::kBf16};

inline std::string_view Name(TestKernels kernels) {
  return kernels == TestKernels::kReference ? "reference" : "cpu";
}
inline std::unique_ptr<Kernels> Make(TestKernels kernels) {
  return kernels == TestKernels::kReference ? fakes::MakeReferenceKernels()
                                            : MakeCpuKernels(2).value();
}

}  // namespace strata::engine
