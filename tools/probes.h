// What an optional library says about itself and this machine, in a line; each has a source file
// for builds with it and one for builds without.
#pragma once

#include <string>

namespace strata::tools {

std::string DescribeCuda();
std::string DescribeMpi();

}  // namespace strata::tools
