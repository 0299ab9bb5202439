#include "tools/probes.h"

namespace strata::tools {

std::string DescribeMpi() { return "no MPI (configure with -DSTRATA_MPI=ON)"; }

}  // namespace strata::tools
