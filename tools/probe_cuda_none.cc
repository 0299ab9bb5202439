#include "tools/probes.h"

namespace strata::tools {

std::string DescribeCuda() { return "no CUDA (configure with -DSTRATA_CUDA=ON)"; }

}  // namespace strata::tools
