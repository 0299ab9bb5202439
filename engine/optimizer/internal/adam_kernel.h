// What one thread does to one slice, per instruction set (adam_kernel.cc, adam_int8_kernel.cc).
#pragma once

#include <string_view>

#include "engine/kernels/isa.h"
#include "engine/optimizer/adam.h"

namespace strata::engine {

struct AdamKernels {
  void (*step)(const AdamScalars& scalars, const AdamSlices& slices);
};

// nullptr if there is no such instruction set in this build.
const AdamKernels* FindAdamKernels(std::string_view instruction_set);

#ifdef STRATA_ISA
namespace STRATA_ISA {
void StepInt8(const AdamScalars& scalars, const AdamSlices& slices);
}
#endif

}  // namespace strata::engine
