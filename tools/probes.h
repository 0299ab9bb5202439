// What an optional library says about itself and this machine, in a line: a source file for builds
// with it and one for builds without.
#pragma once

#include <string>

namespace strata::tools {

std::string DescribeCuda();

// Whether this build can use GPUs, whatever this machine has.
bool HasCuda();

}  // namespace strata::tools
