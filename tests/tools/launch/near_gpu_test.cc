// From the driver to what is said: the program with a driver that has two GPUs, on machines with
// the NUMA nodes that hwloc is told.
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/tools/launch/launch_fixture.h"
#include "tests/tools/program.h"

namespace strata::launch {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class NearGpuTest : public LaunchFixture {
 protected:
  using Variables = std::vector<std::pair<std::string, std::string>>;

  // What rank 1 of two is told of its cores.
  std::string NoteOfRank1(const std::vector<std::string>& command, Variables more = {},
                          const std::string& topology = "numa:1 core:1024 pu:1") const {
    more.insert(more.end(),
                {{"LD_LIBRARY_PATH", STRATA_FAKE_NVML_DIR}, {"HWLOC_SYNTHETIC", topology}});
    std::vector<std::string> words = {
        STRATA_PROGRAM, "launch", "--nproc-per-node", "2", "--dry-run", "--json", "--"};
    words.insert(words.end(), command.begin(), command.end());
    const Finished finished = RunProgram(words, directory_, more);
    EXPECT_EQ(finished.exit_code, 0) << finished.err;
    return nlohmann::json::parse(finished.out)["nodes"][0]["cores"][1]["note"];
  }
};

TEST_F(NearGpuTest, ADryRunNamesTheGpuOfEachRank) {
  EXPECT_EQ(NoteOfRank1({"no-training"}), "near GPU ffff:9b:00.0");
  EXPECT_EQ(NoteOfRank1({"no-training"}, {{"CUDA_VISIBLE_DEVICES", "1,0"}}),
            "near GPU ffff:17:00.0");
  EXPECT_EQ(NoteOfRank1({"no-training"}, {{"CUDA_VISIBLE_DEVICES", ""}}), "");
}

TEST_F(NearGpuTest, WhereTheMachineDoesNotTellItsNodeThatIsSaid) {
  EXPECT_EQ(NoteOfRank1({"no-training"}, {}, "numa:2 core:512 pu:1"),
            "GPU ffff:9b:00.0: sysfs does not tell its NUMA node");
}

TEST_F(NearGpuTest, ATrainingIsNearTheGpuThatItsConfigurationMeans) {
  const std::string config = tools::WriteTinyConfig(directory_, 3);
  EXPECT_EQ(NoteOfRank1({"train", config}), "");  // device = "cpu"
  EXPECT_EQ(NoteOfRank1({"train", "--resume", config, "--set", "train.device=cuda"}),
            "near GPU ffff:9b:00.0");
  EXPECT_EQ(NoteOfRank1({"train", "--set=train.device=cuda:0", "--", config}),
            "near GPU ffff:17:00.0");
  // Neither is one that can be started: the rank will say what is wrong with it.
  EXPECT_EQ(NoteOfRank1({"train", config, "--no-such-flag"}), "near GPU ffff:9b:00.0");
  EXPECT_EQ(NoteOfRank1({"train", "not-there.toml"}), "near GPU ffff:9b:00.0");
}

TEST_F(NearGpuTest, ARankSaysItWhenItStartsAndInItsLog) {
  const Finished finished =
      RunProgram(Shell({}, "true"), directory_, {{"LD_LIBRARY_PATH", STRATA_FAKE_NVML_DIR}});
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(finished.err, AllOf(HasSubstr(" of NUMA node "), HasSubstr("GPU ffff:17:00.0")));
  EXPECT_THAT(ReadText(directory_ + "/strata-logs/rank-0.log"), HasSubstr("GPU ffff:17:00.0"));
  const Finished free = RunProgram(Shell({"--no-bind"}, "true"), directory_,
                                   {{"LD_LIBRARY_PATH", STRATA_FAKE_NVML_DIR}});
  EXPECT_THAT(free.err, AllOf(HasSubstr("not bound"), Not(HasSubstr("GPU"))));
}

}  // namespace
}  // namespace strata::launch
