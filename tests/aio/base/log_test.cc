#include "aio/base/log.h"

#include <gtest/gtest.h>

namespace strata {
namespace {

class LogTest : public testing::Test {
 protected:
  ~LogTest() override { SetLogThreshold(Severity::kInfo); }
};

TEST_F(LogTest, ALineNamesSeverityAndComponent) {
  testing::internal::CaptureStderr();
  Log(Severity::kWarning, "prefetch", "late shard layer={} wait_us={}", 3, 250);
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "warning prefetch: late shard layer=3 wait_us=250\n");
}

TEST_F(LogTest, NothingBelowTheThresholdIsWritten) {
  SetLogThreshold(Severity::kError);
  testing::internal::CaptureStderr();
  Log(Severity::kInfo, "aio", "hello");
  Log(Severity::kWarning, "aio", "careful");
  Log(Severity::kError, "aio", "broken");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "error aio: broken\n");
}

}  // namespace
}  // namespace strata
