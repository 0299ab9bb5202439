// Where the kernel tells of itself.
#pragma once

#include <string>

namespace strata::aio {

// Another machine is looked at as a copy of these trees.
struct PreflightRoots {
  std::string sys = "/sys";
  std::string proc = "/proc";
  std::string dev = "/dev";
};

}  // namespace strata::aio
