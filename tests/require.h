// What a machine must have for a test not to be skipped.
#pragma once

#include <cstdlib>
#include <string_view>

namespace strata {

// Whether STRATA_REQUIRE=gpu,uring says that a test may not skip for want of `feature`.
inline bool IsRequired(std::string_view feature) {
  const char* required = std::getenv("STRATA_REQUIRE");
  return required != nullptr && std::string_view(required).find(feature) != std::string_view::npos;
}

}  // namespace strata
