#include "tiering/internal/manifest.h"

#include <gmock/gmock.h>

namespace strata::tiering {
namespace {

using testing::HasSubstr;

Manifest Example() {
  return {.generation = 12,
          .rank = 3,
          .pinned = true,
          .metadata = std::string("step 7\0\xff", 8),
          .num_directories = 2,
          .segments = {{0, 4096, 0, 5}, {1, 8192, 0, 2}},
          .blocks = {{"layers.0.w", 4000, true, 0, 8192, 0x0123456789abcdef},
                     {"never written", 8192, false, 0, 0, 0}}};
}

TEST(ManifestTest, IsReadAsItWasWritten) {
  auto read = DecodeManifest(EncodeManifest(Example()));
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(read->generation, 12u);
  EXPECT_EQ(read->rank, 3u);
  EXPECT_TRUE(read->pinned);
  EXPECT_EQ(read->metadata, Example().metadata);
  EXPECT_EQ(read->num_directories, 2u);
  ASSERT_EQ(read->segments.size(), 2u);
  EXPECT_EQ(read->segments[1].directory, 1u);
  EXPECT_EQ(read->segments[1].extent_bytes, 8192u);
  EXPECT_EQ(read->segments[1].num_extents, 2u);
  ASSERT_EQ(read->blocks.size(), 2u);
  EXPECT_EQ(read->blocks[0].name, "layers.0.w");
  EXPECT_EQ(read->blocks[0].size_bytes, 4000u);
  EXPECT_TRUE(read->blocks[0].written);
  EXPECT_EQ(read->blocks[0].offset_bytes, 8192u);
  EXPECT_EQ(read->blocks[0].checksum, 0x0123456789abcdefu);
  EXPECT_FALSE(read->blocks[1].written);
}

TEST(ManifestTest, EveryFlippedBitIsFound) {
  const std::string good = EncodeManifest(Example());
  for (size_t at = 0; at < good.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      EXPECT_EQ(DecodeManifest(bad).status().code(), Code::kDataLoss) << at << " bit " << bit;
    }
  }
}

TEST(ManifestTest, EveryTruncationAndWhatIsAppendedIsFound) {
  const std::string good = EncodeManifest(Example());
  for (size_t length = 0; length < good.size(); ++length)
    EXPECT_EQ(DecodeManifest(good.substr(0, length)).status().code(), Code::kDataLoss) << length;
  EXPECT_EQ(DecodeManifest(good + '\0').status().code(), Code::kDataLoss);
}

}  // namespace
}  // namespace strata::tiering
