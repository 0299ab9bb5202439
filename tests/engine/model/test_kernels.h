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

inline std::string_view Name(TestKernels kernels) {
  return kernels == TestKernels::kReference ? "reference" : "cpu";
}
inline std::unique_ptr<Kernels> Make(TestKernels kernels) {
  return kernels == TestKernels::kReference ? fakes::MakeReferenceKernels()
                                            : MakeCpuKernels(2).value();
}
// Not ok: why this machine cannot run them in `dtype`.
inline Status Supports(TestKernels kernels, DType dtype) {
  return kernels == TestKernels::kReference ? OkStatus() : CheckCpuSupports(dtype);
}

}  // namespace strata::engine
