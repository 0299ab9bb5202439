#include "aio/bench/aio_setting.h"

#include <gtest/gtest.h>

#include "aio/base/units.h"

namespace strata::aio {
namespace {

TEST(AioSettingTest, ReadsLikeALineOfATable) {
  AioSetting setting = {.block_size_bytes = 512_KiB, .queue_depth = 8, .thread_count = 2};
  EXPECT_EQ(DescribeSetting(setting), "io_uring 512 KiB x 8 x 2 threads");
  setting = {.queue_depth = 4, .sqpoll = true};
  EXPECT_EQ(DescribeSetting(setting), "io_uring+sqpoll 1 MiB x 4 x 1 thread");
}

TEST(AioSettingTest, CountsTheMemoryOfAllThreads) {
  AioSetting setting = {.block_size_bytes = 1_MiB, .queue_depth = 16, .thread_count = 2};
  EXPECT_EQ(setting.in_flight_bytes(), 32_MiB);
}

}  // namespace
}  // namespace strata::aio
