// Whether this process may use io_uring, and what its kernel offers.
#pragma once

#include <string>
#include <vector>

#include "aio/preflight.h"

namespace strata::aio {

struct UringAnswer {
  int error_number = 0;  // of io_uring_setup; 0: there is io_uring
  std::vector<std::string> features = {};
  std::vector<std::string> missing = {};
  int register_error_number = 0;  // of registering a little memory
};

// Sets rings up and drops them.
UringAnswer AskUring();

Finding UringFinding(const UringAnswer& answer, const PreflightRoots& roots);

}  // namespace strata::aio
