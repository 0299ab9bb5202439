#include "aio/bench/tune_grid.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "aio/base/units.h"
#include "aio/bench/internal/lattice.h"

namespace strata::aio {
namespace {

TuneMachine Machine() {
  return {.cores = 2, .in_flight_limit_bytes = 4_GiB, .backends = {IoBackend::kIoUring}};
}

TEST(TuneGridTest, IsTheWholeProductWhereMemoryAllows) {
  std::vector<AioSetting> all = DefaultCandidates(Machine());
  EXPECT_EQ(all.size(), 7u * 7 * 2 * 2);  // blocks, depths, threads, sqpoll
  EXPECT_EQ(all.front().block_size_bytes, 128_KiB);
  EXPECT_EQ(all.back().in_flight_bytes(), 1_GiB);
}

TEST(TuneGridTest, LeavesOutWhatTheMachineCannotHold) {
  TuneMachine small = Machine();
  small.in_flight_limit_bytes = 16_MiB;
  for (const AioSetting& setting : DefaultCandidates(small))
    EXPECT_LE(setting.in_flight_bytes(), 16_MiB);
  small.in_flight_limit_bytes = 0;
  EXPECT_EQ(DefaultCandidates(small).size(), 2u);  // the smallest, with and without sqpoll
}

TEST(TuneGridTest, APollingThreadNeedsACoreOfItsOwn) {
  TuneMachine one = Machine();
  one.cores = 1;
  for (const AioSetting& setting : DefaultCandidates(one)) {
    EXPECT_FALSE(setting.sqpoll);
    EXPECT_EQ(setting.thread_count, 1u);
  }
  TuneMachine posix = Machine();
  posix.backends = {IoBackend::kPosix};
  for (const AioSetting& setting : DefaultCandidates(posix)) EXPECT_FALSE(setting.sqpoll);
}

using bench_internal::Lattice;

TEST(LatticeTest, TheCoarseGridSpreadsOverBlocksAndDepthsAndKeepsTheFirstEngine) {
  std::vector<AioSetting> all = DefaultCandidates(Machine());
  std::vector<size_t> coarse = Lattice(all).Coarse(20);
  ASSERT_LE(coarse.size(), 20u);
  ASSERT_GE(coarse.size(), 10u);
  std::vector<uint64_t> blocks;
  for (size_t i : coarse) blocks.push_back(all[i].block_size_bytes);
  EXPECT_LE(*std::min_element(blocks.begin(), blocks.end()), 512_KiB);
  EXPECT_GE(*std::max_element(blocks.begin(), blocks.end()), 2_MiB);
  EXPECT_EQ(Lattice(all).Coarse(1).size(), 1u);
  EXPECT_FALSE(all[Lattice(all).Coarse(1)[0]].sqpoll);
  EXPECT_EQ(Lattice(all).Coarse(1000).size(), all.size());
}

TEST(LatticeTest, AListWithHolesStillHasACoarseGrid) {
  std::vector<AioSetting> diagonal;
  for (uint32_t i = 0; i < 7; ++i)
    diagonal.push_back({.block_size_bytes = 8_MiB >> i, .queue_depth = 1u << i});
  EXPECT_EQ(Lattice(diagonal).Coarse(3).size(), 3u);
  EXPECT_EQ(Lattice(diagonal).Coarse(1).size(), 1u);
}

TEST(LatticeTest, NeighboursAreOneStepAwayOnOneAxis) {
  std::vector<AioSetting> all = DefaultCandidates(Machine());
  AioSetting centre = {.block_size_bytes = 1_MiB, .queue_depth = 8};
  size_t at = static_cast<size_t>(std::find(all.begin(), all.end(), centre) - all.begin());
  std::vector<std::string> names;
  for (size_t i : Lattice(all).NeighboursOf(at)) names.push_back(DescribeSetting(all[i]));
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{
                       "io_uring 1 MiB x 16 x 1 thread", "io_uring 1 MiB x 4 x 1 thread",
                       "io_uring 1 MiB x 8 x 2 threads", "io_uring 2 MiB x 8 x 1 thread",
                       "io_uring 512 KiB x 8 x 1 thread", "io_uring+sqpoll 1 MiB x 8 x 1 thread"}));
}

}  // namespace
}  // namespace strata::aio
