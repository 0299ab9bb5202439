#include "engine/kernels/cpu_kernels.h"
#include "tests/engine/kernels/kernels_rig.h"
#include "tests/or_die.h"

namespace strata::engine {

std::string MissingForTestKernels() { return ""; }
std::unique_ptr<Kernels> MakeTestKernels() { return OrDie(MakeCpuKernels(2)); }

}  // namespace strata::engine
