// The backends that a suite runs over.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "aio/io_engine.h"
#include "tests/aio/scratch.h"

namespace strata::aio {

inline auto EachBackend() { return testing::ValuesIn(kAllIoBackends); }

inline std::string NameOfBackend(const testing::TestParamInfo<IoBackend>& info) {
  return std::string(IoBackendName(info.param));
}

// Why this machine has no such backend; empty when it has, or must have by STRATA_REQUIRE.
inline std::string WhyNoBackend(IoBackend backend) {
  Status status = IoEngine::Create({.backend = backend}).status();
  bool lacks = status.code() == Code::kUnavailable && !IsRequired("uring");
  return lacks ? status.message() : "";
}

}  // namespace strata::aio

#define STRATA_BACKEND_OR_SKIP(backend) \
  if (std::string why = ::strata::aio::WhyNoBackend(backend); !why.empty()) GTEST_SKIP() << why
