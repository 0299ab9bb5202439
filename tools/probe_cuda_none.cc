#include "tools/probes.h"

namespace strata::tools {

std::string DescribeCuda() { return "no CUDA (configure with -DSTRATA_CUDA=ON)"; }

bool HasCuda() { return false; }

}  // namespace strata::tools
