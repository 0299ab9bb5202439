#include "engine/comm/internal/reduce.h"

#include "engine/kernels/isa.h"

namespace strata::engine {

#define STRATA_DECLARE(name)                 \
  namespace name {                           \
  extern const ReduceKernels kReduceKernels; \
  }
STRATA_ISAS(STRATA_DECLARE)
#undef STRATA_DECLARE

const ReduceKernels* FindReduceKernels(std::string_view instruction_set) {
#define STRATA_FIND(name) \
  if (instruction_set == #name) return &name::kReduceKernels;
  STRATA_ISAS(STRATA_FIND)
#undef STRATA_FIND
  return nullptr;
}

const ReduceKernels& BestReduceKernels() {
  static const ReduceKernels* const best = FindReduceKernels(InstructionSets().back());
  return *best;
}

}  // namespace strata::engine
