// For steps of a test that are not what it tests.
#pragma once

#include <cstdio>
#include <utility>

#include "aio/base/status.h"

namespace strata {

// The value, or the end of the program with the reason on stderr.
template <typename T>
T OrDie(Result<T> result) {
  if (!result.ok()) std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
  STRATA_CHECK(result.ok());
  return std::move(result).value();
}

}  // namespace strata
