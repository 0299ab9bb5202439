// What an optional library says about itself and this machine, in a line: a source file for builds
// with it and one for builds without.
#pragma once

#include <string>

namespace strata::tools {

std::string DescribeCuda();

}  // namespace strata::tools
