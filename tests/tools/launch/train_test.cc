// Training jobs of several processes in which one goes wrong: all end in bounded time, the message
// names the cause, and the job goes on from its last commit to the bits of an undisturbed one.
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/aio/mounts.h"
#include "tests/engine/comm/free_port.h"
#include "tests/tools/launch/launch_fixture.h"
#include "tests/tools/program.h"

namespace strata::launch {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

// So many that a job still runs when what it has said is known here, and something is done to it.
constexpr int kSteps = 120;

class LaunchedTrainingTest : public LaunchFixture {
 protected:
  void SetUp() override { STRATA_NEEDS_MPIRUN(); }

  // Two ranks of the run in `folder`, which goes on if it has begun. Rank 1 is started by
  // `second`, a shell command with "$@" in it, when that is given.
  std::vector<std::string> Job(const std::string& folder, const std::vector<std::string>& more = {},
                               const std::string& second = "") {
    const std::string config = tools::WriteTinyConfig(directory_ + "/" + folder, kSteps);
    std::vector<std::string> words = {STRATA_PROGRAM, "launch", "--nproc-per-node", "2",
                                      "--grace",      "2"};
    if (!second.empty()) {
      words.insert(words.end(), {"--program", Script(folder, second)});
    }
    words.insert(words.end(), {"--", "train", config, "--resume", "--json"});
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  std::string Script(const std::string& folder, const std::string& second) const {
    const std::string path = directory_ + "/" + folder + "/rank.sh";
    std::ofstream(path) << fmt::format("#!/bin/sh\nif [ $RANK = 1 ]; then {}; fi\nexec {} \"$@\"\n",
                                       second, STRATA_PROGRAM);
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return path;
  }
  // For rank 1: its drive is what is mounted at `at`.
  static std::string WithDrive(const std::string& at) {
    return fmt::format(
        "exec unshare --mount sh -c 'mount --bind {0} $(dirname {0})/nvme && exec \"$@\"' sh {1} "
        "\"$@\"",
        at, STRATA_PROGRAM);
  }
  // The last state's, of a run that nobody disturbs.
  std::string UndisturbedHash() {
    const Finished calm = RunProgram(Job("calm"), directory_);
    EXPECT_EQ(calm.exit_code, 0) << calm.err;
    return tools::JsonValue(calm.out, "state_hash");
  }
  void ExpectGoesOnTo(const std::string& hash, const std::string& folder,
                      const std::string& second = "") {
    const Finished last = RunProgram(Job(folder, {}, second), directory_);
    ASSERT_EQ(last.exit_code, 0) << last.err;
    EXPECT_EQ(tools::JsonValue(last.out, "steps_done"), std::to_string(kSteps));
    EXPECT_EQ(tools::JsonValue(last.out, "state_hash"), hash);
  }
  // As the launcher says it; 0 before that.
  static pid_t PidOf(uint32_t rank, const std::string& said) {
    const size_t line = said.find(fmt::format("launch: rank {} on ", rank));
    const size_t at = line == std::string::npos ? line : said.find(", pid ", line);
    return at == std::string::npos ? 0 : atoi(said.c_str() + at + 6);
  }
  // Both ranks, so that the job does not end while something is done to it.
  static void Signal(const Running& job, int signal_number) {
    for (const uint32_t rank : {0u, 1u}) kill(PidOf(rank, job.err()), signal_number);
  }
  static std::string Step(uint64_t step) { return fmt::format("{{\"step\":{},", step); }
};

int NumKills() {
  const char* text = getenv("STRATA_CRASH_KILLS");
  return text == nullptr ? 5 : atoi(text);
}

// What a run says at its end can be pasted.
TEST_F(LaunchedTrainingTest, TheCommandThatTrainsLongerStartsAsManyRanks) {
  const std::string config = tools::WriteTinyConfig(directory_ + "/pasted", 3);
  const Finished first = RunProgram(
      {STRATA_PROGRAM, "launch", "--nproc-per-node", "2", "--", "train", config}, directory_);
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const std::string label = "  train longer: ";
  const size_t at = first.out.find(label);
  ASSERT_NE(at, std::string::npos) << first.out;
  const size_t begin = at + label.size();
  const std::string pasted = first.out.substr(begin, first.out.find('\n', begin) - begin);
  const Finished second = RunProgram({"/bin/sh", "-c", pasted + " --json"}, directory_);
  ASSERT_EQ(second.exit_code, 0) << pasted << "\n" << second.err;
  EXPECT_EQ(tools::JsonValue(second.out, "steps_done"), "6");
}

// As torchrun or a shell starts them, without MPI's runtime.
TEST_F(LaunchedTrainingTest, RanksThatMeetOverTcpTrainToTheSameBits) {
  const std::string config = tools::WriteTinyConfig(directory_ + "/tcp", kSteps);
  const std::string both = fmt::format(
      "export WORLD_SIZE=2 MASTER_ADDR=localhost STRATA_MASTER_PORT={}; "
      "RANK=1 \"$@\" >/dev/null & RANK=0 \"$@\" && wait $!",
      engine::FreePort());
  const Finished finished = RunProgram(
      {"/bin/sh", "-c", both, "sh", STRATA_PROGRAM, "train", config, "--json"}, directory_);
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_EQ(tools::JsonValue(finished.out, "steps_done"), std::to_string(kSteps));
  EXPECT_EQ(tools::JsonValue(finished.out, "state_hash"), UndisturbedHash());
}

// As strata launch does where there is no mpirun.
TEST_F(LaunchedTrainingTest, RanksThatTheLauncherStartsTrainToTheSameBits) {
  std::vector<std::string> words = Job("ours");
  words.insert(words.begin() + 2, {"--comm", "tcp"});
  const Finished finished = RunProgram(words, directory_);
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(finished.err, HasSubstr("2 ranks on this machine, which meet over TCP"));
  EXPECT_EQ(tools::JsonValue(finished.out, "steps_done"), std::to_string(kSteps));
  EXPECT_EQ(tools::JsonValue(finished.out, "state_hash"), UndisturbedHash());
}

TEST_F(LaunchedTrainingTest, ARankThatIsKilledEndsThemAndTheyGoOn) {
  std::vector<std::string> words = Job("killed");
  words.insert(words.begin() + 2, {"--comm", "tcp"});
  Running job(words, directory_);
  ASSERT_TRUE(job.SaysOnOut(Step(9))) << job.err();
  kill(PidOf(1, job.err()), SIGKILL);
  const Finished finished = job.Wait();
  EXPECT_EQ(finished.exit_code, 137);
  EXPECT_THAT(finished.err,
              AllOf(HasSubstr("error: rank 1 on "), HasSubstr("failed first: killed by signal 9")));
  ExpectGoesOnTo(UndisturbedHash(), "killed");
}

// Before the first step, in steps, in commits; either rank.
TEST_F(LaunchedTrainingTest, RanksKilledAtRandomMomentsCostNothing) {
  const std::string hash = UndisturbedHash();
  std::mt19937_64 random(7);
  int num_killed = 0;
  for (int i = 0; i < NumKills(); ++i) {
    Running job(Job("stormy"), directory_);
    const uint32_t victim = random() % 2;
    ASSERT_TRUE(job.SaysOnErr(fmt::format("launch: rank {} on ", victim))) << job.err();
    if (i % 2 == 0) job.SaysOnOut("{\"step\":");
    std::this_thread::sleep_for(
        std::chrono::microseconds(random() % (i % 2 == 0 ? 30'000 : 400'000)));
    kill(PidOf(victim, job.err()), SIGKILL);
    const Finished finished = job.Wait();
    if (finished.exit_code == 0) continue;  // it was faster
    ++num_killed;
    EXPECT_EQ(finished.exit_code, 137);
    EXPECT_THAT(finished.err, HasSubstr(fmt::format("error: rank {} on ", victim)));
    EXPECT_THAT(finished.err, HasSubstr("failed first: killed by signal 9"));
  }
  EXPECT_GT(num_killed, NumKills() / 2);
  ExpectGoesOnTo(hash, "stormy");
}

TEST_F(LaunchedTrainingTest, ARankThatIsStoppedEndsTheJobAndIsNamed) {
  const std::string hash = UndisturbedHash();
  Running job(Job("stopped", {"--set", "train.stall_timeout_s=1"}), directory_);
  ASSERT_TRUE(job.SaysOnOut(Step(9))) << job.err();
  const pid_t victim = PidOf(1, job.err());
  kill(victim, SIGSTOP);
  const Finished finished = job.Wait();
  EXPECT_NE(finished.exit_code, 0);
  EXPECT_THAT(finished.err,
              AllOf(HasSubstr(fmt::format("rank 0 waits for rank 1 (pid {}, stopped by "
                                          "a signal): no progress for 1.",
                                          victim)),
                    HasSubstr("error: rank 0 on ")));
  ExpectGoesOnTo(hash, "stopped");
}

// As Ctrl-Z does, or a machine that is suspended.
TEST_F(LaunchedTrainingTest, AJobThatIsStoppedAsAWholeGoesOn) {
  const std::string hash = UndisturbedHash();
  Running job(Job("paused", {"--set", "train.stall_timeout_s=2"}), directory_);
  ASSERT_TRUE(job.SaysOnOut(Step(9))) << job.err();
  Signal(job, SIGSTOP);
  std::this_thread::sleep_for(std::chrono::seconds(4));
  Signal(job, SIGCONT);
  const Finished finished = job.Wait();
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_EQ(tools::JsonValue(finished.out, "state_hash"), hash);
}

TEST_F(LaunchedTrainingTest, OneRankWithAnotherConfigurationIsToldTheDifference) {
  const Finished finished =
      RunProgram(Job("other", {}, fmt::format("exec {} \"$@\" --set train.seed=4", STRATA_PROGRAM)),
                 directory_);
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(finished.err, HasSubstr("the configuration must be the same on all ranks: rank 0 has "
                                      "'seed = 3', this one 'seed = 4'"));
}

TEST_F(LaunchedTrainingTest, ADriveThatIsFullEndsTheJobAndIsNamed) {
  std::filesystem::create_directories(directory_ + "/full");
  STRATA_MOUNT_OR_SKIP(drive, TemporaryMount::Tmpfs(directory_ + "/full/drive", "8m"));
  const std::string hash = UndisturbedHash();
  const std::string second = WithDrive(drive->at());
  Running job(Job("full", {}, second), directory_);
  ASSERT_TRUE(job.SaysOnOut(Step(9))) << job.err();
  // What somebody else puts there, whenever there is room, leaves none for the next commit: not
  // once, as a manifest that has just been replaced makes room for one more.
  std::jthread somebody([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      std::ofstream file(drive->File("somebody-elses"), std::ios::app);
      while (file.write(std::string(4096, '0').data(), 4096).flush()) {
      }
    }
  });
  const Finished finished = job.Wait();
  somebody.request_stop();
  somebody.join();
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(finished.err,
              AllOf(HasSubstr("rank-1.manifest"), HasSubstr("No space left on device")));
  std::filesystem::remove(drive->File("somebody-elses"));
  ExpectGoesOnTo(hash, "full", second);
}

TEST_F(LaunchedTrainingTest, ADriveThatIsTooSmallForOneRankIsSaidAtTheStart) {
  std::filesystem::create_directories(directory_ + "/small");
  STRATA_MOUNT_OR_SKIP(drive, TemporaryMount::Tmpfs(directory_ + "/small/drive", "512k"));
  const Finished finished = RunProgram(Job("small", {}, WithDrive(drive->at())), directory_);
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(finished.err,
              AllOf(HasSubstr("[0] error: rank 1: NVMe directory"),
                    HasSubstr("/small/nvme: the block store needs"), HasSubstr("are missing")));
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/small/run/config.toml"));
}

// Its processes are in the kernel then, and cannot even be killed.
TEST_F(LaunchedTrainingTest, ADriveThatNeverAnswersEndsTheJobAndSaysWhatWaitsForIt) {
  std::filesystem::create_directories(directory_ + "/frozen");
  STRATA_MOUNT_OR_SKIP(drive, TemporaryMount::Ext4(directory_ + "/frozen/drive", 64 << 20, ""));
  const std::string hash = UndisturbedHash();
  const std::string second = WithDrive(drive->at());
  Running job(Job("frozen", {"--set", "train.stall_timeout_s=1"}, second), directory_);
  ASSERT_TRUE(job.SaysOnOut(Step(9))) << job.err();
  Signal(job, SIGSTOP);
  // It thaws whatever happens to this test.
  const std::string freeze = fmt::format(
      "fsfreeze -f {0} && (cd /; setsid sh -c 'sleep 60; fsfreeze -u {0}' >/dev/null 2>&1 &)",
      drive->at());
  ASSERT_EQ(std::system(freeze.c_str()), 0);
  Signal(job, SIGCONT);
  const Finished finished = job.Wait();
  ASSERT_EQ(std::system(("fsfreeze -u " + drive->at()).c_str()), 0);
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(finished.err,
              AllOf(HasSubstr("[1] error: no progress for 1 s: "),
                    ContainsRegex("\\[0\\] error: .*rank 1 aborts the collectives: no progress"),
                    HasSubstr("waits for the drive")));
  EXPECT_THAT(LeftOver(), testing::IsEmpty());
  ExpectGoesOnTo(hash, "frozen", second);
}

}  // namespace
}  // namespace strata::launch
