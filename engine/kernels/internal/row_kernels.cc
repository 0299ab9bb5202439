#include "engine/kernels/internal/row_kernels.h"

namespace strata::engine {

#define STRATA_DECLARE(name)           \
  namespace name {                     \
  extern const RowKernels kRowKernels; \
  }
STRATA_ISAS(STRATA_DECLARE)
#undef STRATA_DECLARE

const RowKernels* FindRowKernels(std::string_view instruction_set) {
#define STRATA_FIND(name) \
  if (instruction_set == #name) return &name::kRowKernels;
  STRATA_ISAS(STRATA_FIND)
#undef STRATA_FIND
  return nullptr;
}

}  // namespace strata::engine
