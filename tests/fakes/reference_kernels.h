// The kernel interface as plain loops: one element after the other, sums in fp64, rounded once.
// Slow and obvious, so that models and fast kernels can be held to it.
#pragma once

#include <memory>

#include "engine/kernels/kernels.h"

namespace strata::fakes {

// fp32 and bf16. Thread-safe; computes on the calling thread and allocates as it likes.
std::unique_ptr<engine::Kernels> MakeReferenceKernels();

}  // namespace strata::fakes
