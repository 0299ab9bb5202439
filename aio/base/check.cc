#include "aio/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace strata::base_internal {

void CheckFailed(const char* file, int line, std::string_view condition) {
  std::fprintf(stderr, "%s:%d: check failed: %.*s\n", file, line,
               static_cast<int>(condition.size()), condition.data());
  std::abort();
}

}  // namespace strata::base_internal
