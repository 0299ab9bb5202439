#include "engine/zero/pending_homes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace strata::engine {
namespace {

using testing::Each;
using testing::ElementsAre;
using tiering::Tier;

constexpr uint64_t kUnitBytes[] = {8 << 10, 4 << 10, 64 << 10, 4 << 10, 8 << 10};

StateLayout LayoutOf(const LayoutOptions& options) {
  StateLayout layout;
  layout.options = options;
  for (uint64_t bytes : kUnitBytes) {
    const uint64_t elements = bytes / SizeOf(options.precision);
    layout.units.push_back({.shard_elements = elements / options.world_size,
                            .whole_elements = elements,
                            .chunks = {}});
  }
  return layout;
}

TEST(PendingHomes, AreOnNvmeWhereMemoryHasNoRoom) {
  EXPECT_THAT(PlacePending({}, LayoutOf({})), Each(Tier::kNvme));
  EXPECT_THAT(PlacePending({.device_bytes = 4095, .host_bytes = 4095}, LayoutOf({})),
              Each(Tier::kNvme));
}

TEST(PendingHomes, FillHostMemoryThenTheDeviceAndPassOverUnitsThatAreTooLarge) {
  EXPECT_THAT(PlacePending({.device_bytes = 8 << 10, .host_bytes = 12 << 10}, LayoutOf({})),
              ElementsAre(Tier::kHost, Tier::kHost, Tier::kNvme, Tier::kDevice, Tier::kNvme));
  EXPECT_THAT(PlacePending({.host_bytes = 88 << 10}, LayoutOf({})), Each(Tier::kHost));
}

// Slots are multiples of 4 KiB, so a gradient of 2 KiB takes as much room as one of 4.
TEST(PendingHomes, TakeWholeSlotsOfThisRanksPart) {
  const LayoutOptions two_ranks{.world_size = 2};
  EXPECT_THAT(PlacePending({.host_bytes = 12 << 10}, LayoutOf(two_ranks)),
              ElementsAre(Tier::kHost, Tier::kHost, Tier::kNvme, Tier::kHost, Tier::kNvme));
}

TEST(PendingHomes, BytesByTierAreThoseOfWhatTheOptimizerReads) {
  StateLayout layout = LayoutOf({});
  EXPECT_THAT(PendingBytesByTier(
                  PlacePending({.device_bytes = 4 << 10, .host_bytes = 8 << 10}, layout), layout),
              ElementsAre(std::pair(Tier::kDevice, 4 << 10), std::pair(Tier::kHost, 8 << 10),
                          std::pair(Tier::kNvme, 76 << 10)));
  layout = LayoutOf({.precision = DType::kF32, .world_size = 2});
  EXPECT_THAT(PendingBytesByTier(AllPendingIn(Tier::kNvme, layout), layout),
              ElementsAre(std::pair(Tier::kNvme, 44 << 10)));
}

}  // namespace
}  // namespace strata::engine
