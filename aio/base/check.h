// STRATA_CHECK: our own promises, checked in every build. Never assert(), which NDEBUG removes.
#pragma once

#include <string_view>

namespace strata::base_internal {
[[noreturn]] void CheckFailed(const char* file, int line, std::string_view condition);
}

#define STRATA_CHECK(condition)                                             \
  do {                                                                      \
    if (!(condition)) [[unlikely]]                                          \
      ::strata::base_internal::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (false)
