// The implementations of the kernels that the model is tested on.
#pragma once

#include <memory>
#include <string_view>

#include "engine/kernels/kernels.h"
#include "tests/fakes/reference_kernels.h"

namespace strata::engine {

enum class TestKernels { kReference };
inline constexpr TestKernels kAllTestKernels[] = {TestKernels::kReference};

inline std::string_view Name(TestKernels) { return "reference"; }
inline std::unique_ptr<Kernels> Make(TestKernels) { return fakes::MakeReferenceKernels(); }

}  // namespace strata::engine
