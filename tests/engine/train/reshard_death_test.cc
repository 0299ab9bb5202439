// A job that dies in any moment of moving a run's state to other ranks: the run has its state,
// whoever resumes it, and nothing of the attempt is left behind.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "aio/file.h"
#include "engine/train/run_stores.h"
#include "tests/engine/train/mortal_job.h"
#include "tests/engine/train/rank_jobs.h"

namespace strata::engine {
namespace {

namespace fs = std::filesystem;

struct Ways {
  std::string name;
  Job from;
  Job to;

  friend void PrintTo(const Ways& test, std::ostream* out) { *out << test.name; }
};

class ReshardDeathTest : public testing::TestWithParam<Ways> {
 protected:
  // Its ranks are threads.
  Life Live(const Job& job, SessionOptions::Start start, uint64_t num_moments) const {
    return LiveFor(num_moments, [&] {
      const RunConfig config = ConfigOf(run_, job);
      std::vector<uint64_t> hashes(job.world);
      RunRanks(MachinesOf({job.world}), [&](Communicator& communicator) {
        SessionOptions options{
            .start = start, .create_engine = CreateMortalEngine, .communicator = &communicator};
        hashes[communicator.rank()] = OrDie(TrainWith(config, options)).summary.state_hash;
      });
      return hashes[0];
    });
  }

  // The run as the first ranks left it. Always at one place, as it knows where its blocks are.
  void Restore() const {
    fs::remove_all(run_);
    fs::copy(kept_, run_, fs::copy_options::recursive);
  }

  void ExpectOnlyTheBlocksOf(const Job& job) const {
    const RunStores stores =
        OrDie(ParseRunStores(OrDie(aio::ReadSmallFile(run_ + "/run/stores.json", 1 << 20))));
    EXPECT_EQ(stores.current.world_size, job.world);
    std::set<std::string> folders;
    size_t num_files = 0;
    for (const auto& entry : fs::recursive_directory_iterator(run_)) {
      if (!entry.path().filename().string().ends_with(".blocks")) continue;
      folders.insert(entry.path().parent_path());
      ++num_files;
    }
    EXPECT_EQ(folders.size(), 1u);
    EXPECT_EQ(num_files, job.world);
  }

  ScratchDirectory scratch_;
  const std::string run_ = scratch_.path() + "/it";
  const std::string kept_ = scratch_.path() + "/kept";
};

TEST_P(ReshardDeathTest, InAnyMomentTheRunHasItsState) {
  const auto& [name, from, to] = GetParam();
  fs::create_directories(run_);
  const Life before = Live(from, SessionOptions::Start::kNew, kForever);
  ASSERT_NE(before.state_hash, 0u);
  fs::copy(run_, kept_, fs::copy_options::recursive);
  const Life undisturbed = Live(to, SessionOptions::Start::kResume, kForever);
  ASSERT_EQ(undisturbed.state_hash, before.state_hash);
  ASSERT_GT(undisturbed.num_moments, 100u);  // or it proves little

  const uint64_t stride = std::max<uint64_t>(1, undisturbed.num_moments / NumDeaths());
  uint64_t num_deaths = 0;
  for (uint64_t moment = stride / 2; moment < undisturbed.num_moments; moment += stride) {
    SCOPED_TRACE(moment);
    Restore();
    num_deaths += Live(to, SessionOptions::Start::kResume, moment).ended_well ? 0 : 1;
    const Job& next = num_deaths % 2 == 0 ? from : to;
    const Life rest = Live(next, SessionOptions::Start::kResume, kForever);
    EXPECT_TRUE(rest.ended_well);
    EXPECT_EQ(rest.state_hash, before.state_hash);
    ExpectOnlyTheBlocksOf(next);
  }
  EXPECT_GE(num_deaths, NumDeaths() - 2);  // of several threads the number of moments varies
}

const std::vector<std::string> kPosix = {"aio.backend=posix"};
const Ways kWays[] = {
    {"two_to_one", {2, 3, "nvme", "nvme", 1, kPosix}, {1, 3, "nvme", "nvme", 1, kPosix}},
    {"one_to_two", {1, 3, "host", "host", 1, kPosix}, {2, 1, "device", "host", 1, kPosix}}};

INSTANTIATE_TEST_SUITE_P(Ways, ReshardDeathTest, testing::ValuesIn(kWays),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace strata::engine
