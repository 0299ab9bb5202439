#include "engine/kernels/cpu_kernels.h"
#include "tests/engine/kernels/kernels_rig.h"
#include "tests/or_die.h"

namespace strata::engine {

std::string MissingForTestKernels() { return ""; }
std::unique_ptr<Kernels> MakeTestKernels() { return OrDie(MakeCpuKernels(2)); }

std::vector<std::unique_ptr<Kernels>> MakeAllTestKernels() {
  std::vector<std::unique_ptr<Kernels>> all;
  for (const std::string_view instruction_set : InstructionSets())
    all.push_back(OrDie(MakeCpuKernels(2, instruction_set)));
  return all;
}

}  // namespace strata::engine
