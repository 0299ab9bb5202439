#include "tests/fakes/nccl/fake_nccl.h"

namespace strata::engine {

Result<NcclFunctions> LoadNccl() { return fakes::nccl::Functions(); }

}  // namespace strata::engine
