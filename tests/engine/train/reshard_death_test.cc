// A job that dies in any moment of moving a run's state to other ranks: the run has its state,
// whoever resumes it, and nothing of the attempt is left behind.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <ostream>
#include <set>
#include <string>

#include "aio/file.h"
#include "engine/train/run_stores.h"
#include "tests/engine/train/rank_jobs.h"
#include "tests/fakes/child.h"
#include "tests/fakes/mortality.h"

namespace strata::engine {
namespace {

namespace fs = std::filesystem;
using fakes::Child;

constexpr uint64_t kForever = UINT32_MAX;

struct Ways {
  std::string name;
  Job from;
  Job to;

  friend void PrintTo(const Ways& test, std::ostream* out) { *out << test.name; }
};

struct Life {
  bool ended_well = false;
  uint64_t state_hash = 0;
  uint64_t num_moments = 0;
};

class ReshardDeathTest : public testing::TestWithParam<Ways> {
 protected:
  // As in run_death_test.cc.
  static uint64_t NumDeaths() {
    const char* text = getenv("STRATA_DEATHS");
    return text == nullptr ? 12 : strtoull(text, nullptr, 10);
  }

  // In a process of its own: the ranks are threads.
  Life Live(const Job& job, SessionOptions::Start start, uint64_t num_moments) const {
    Child child([&](const Child::Report& report) {
      const RunConfig config = ConfigOf(run_, job);
      const uint64_t born_at = fakes::NumMoments();
      fakes::LiveFor(num_moments);
      std::vector<uint64_t> hashes(job.world);
      RunRanks(MachinesOf({job.world}), [&](Communicator& communicator) {
        SessionOptions options{.start = start, .communicator = &communicator};
        options.create_engine =
            [](const aio::IoEngineOptions& real) -> Result<std::unique_ptr<aio::IoEngine>> {
          STRATA_ASSIGN_OR_RETURN(std::unique_ptr<aio::IoEngine> engine,
                                  aio::IoEngine::Create(real));
          return fakes::MakeMortal(std::move(engine));
        };
        hashes[communicator.rank()] = OrDie(TrainWith(config, options)).summary.state_hash;
      });
      report(hashes[0]);
      report(fakes::NumMoments() - born_at);
    });
    Life life;
    life.state_hash = child.Next().value_or(0);
    life.num_moments = child.Next().value_or(0);
    while (child.Next()) continue;
    life.ended_well = child.EndedWell();
    return life;
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
