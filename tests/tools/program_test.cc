// The program as a user meets it: help, wrong usage, errors, Ctrl-C, what it writes.
#include "tests/tools/program.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "engine/kernels/isa.h"

namespace strata::tools {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsSupersetOf;
using testing::Not;
using testing::StartsWith;

std::string ReadFile(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::vector<nlohmann::json> ReadJsonLines(const std::string& path) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

class ProgramTest : public testing::Test {
 protected:
  ProgramTest() {
    std::string pattern = std::string(STRATA_BINARY_DIR) + "/tests/program-XXXXXX";
    directory_ = mkdtemp(pattern.data());
  }
  ~ProgramTest() override {
    std::error_code ignored;
    fs::remove_all(directory_, ignored);
  }
  std::string Run(const std::string& file) const { return directory_ + "/run/" + file; }
  std::string directory_;
};

TEST_F(ProgramTest, HelpNamesEverySubcommandAndSucceeds) {
  Outcome outcome = RunStrata({"--help"});
  EXPECT_EQ(outcome.exit_code, 0);
  for (const char* command : {"train", "plan", "export", "checkpoint", "doctor", "io", "version"}) {
    EXPECT_THAT(outcome.out, HasSubstr(command));
    EXPECT_EQ(RunStrata({command, "--help"}).exit_code, 0);
  }
}

TEST_F(ProgramTest, WrongUsageIsExitCodeTwo) {
  EXPECT_EQ(RunStrata({}).exit_code, 2);
  EXPECT_EQ(RunStrata({"trian"}).exit_code, 2);
  EXPECT_EQ(RunStrata({"train", "x.toml", "--no-such-flag"}).exit_code, 2);
  EXPECT_EQ(RunStrata({"train"}).exit_code, 2);
}

TEST_F(ProgramTest, IoNeedsASubcommandAndNamesThem) {
  EXPECT_EQ(RunStrata({"io"}).exit_code, 2);
  EXPECT_EQ(RunStrata({"io", "check", "--no-such-flag"}).exit_code, 2);
  Outcome outcome = RunStrata({"io", "--help"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.out, HasSubstr("check"));
}

TEST_F(ProgramTest, IoCheckOfWhatIsMissingSaysHowToMakeIt) {
  std::string path = directory_ + "/none";
  Outcome outcome = RunStrata({"io", "check", path});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("No such file"), HasSubstr("mkdir -p " + path)));
  EXPECT_FALSE(fs::exists(path));
}

TEST_F(ProgramTest, IoCheckAsJsonAgreesWithItsExitCode) {
  Outcome outcome = RunStrata({"io", "check", directory_, "--json"});
  nlohmann::json json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(outcome.exit_code, json["problems"] == 0 ? 0 : 1) << outcome.out;
  EXPECT_EQ(json["subjects"][0]["subject"], directory_);
  EXPECT_EQ(json["subjects"][0]["findings"][0]["key"], "path");
  EXPECT_EQ(json["subjects"][0]["findings"][0]["severity"], "fine");
  EXPECT_EQ(json["subjects"][1]["subject"], "machine");
  EXPECT_EQ(json["subjects"][1]["findings"][0]["key"], "io_uring");
  EXPECT_TRUE(fs::is_empty(directory_));
}

TEST_F(ProgramTest, VersionSaysWhatItWasBuiltWith) {
  Outcome outcome = RunStrata({"version"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.out, AllOf(StartsWith("strata "), HasSubstr("hwloc"), HasSubstr("CUDA"),
                                 HasSubstr("MPI")));
}

TEST_F(ProgramTest, AMissingConfigurationIsOneErrorThatNamesIt) {
  Outcome outcome = RunStrata({"train", directory_ + "/none.toml"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, AllOf(StartsWith("error: "), HasSubstr("none.toml")));
}

TEST_F(ProgramTest, PlanSaysWhichGivenKeysHaveNoEffect) {
  const std::string key = "zero_optimization.stage3_max_live_parameters=1e9";
  std::string config = WriteTinyConfig(directory_, 4);
  EXPECT_THAT(RunStrata({"plan", config, "--set", key}).out,
              HasSubstr("no effect: [zero_optimization] stage3_max_live_parameters: gathered "
                        "weights have their place in [memory] device"));
  EXPECT_THAT(JsonValue(RunStrata({"plan", config, "--json", "--set", key}).out, "without_effect"),
              HasSubstr("stage3_max_live_parameters"));
  EXPECT_THAT(RunStrata({"plan", config}).out, Not(HasSubstr("no effect")));
}

TEST_F(ProgramTest, AMistypedKeyIsNamedWithItsPlaceAndTheNearestKnownOne) {
  std::string config = WriteTinyConfig(directory_, 2);
  std::ofstream(config, std::ios::app) << "keep_lost = 3\n";
  Outcome outcome = RunStrata({"plan", config});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr("tiny.toml:32:1"), HasSubstr("keep_lost"), HasSubstr("keep_last")));
}

TEST_F(ProgramTest, PlanDescribesARunOnAMachineThatIsNotThere) {
  std::string config = directory_ + "/written.toml";
  Outcome outcome =
      RunStrata({"plan", "--model", "gpt2", "--gpu", "rtx4090", "--host-mem", "64GiB", "--nvme",
                 "2x3.84TB@6/3GB/s", "--seq", "256", "--inference", "--write-config", config});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out,
              AllOf(HasSubstr("rtx4090"), HasSubstr("2 drives of 6.0 read, 3.0 write"),
                    HasSubstr("tokens/s"), HasSubstr("keys and values"),
                    HasSubstr("19 GiB of its memory, and 512 MiB beside: for CUDA\n")));
  // The file describes the same run.
  Outcome again = RunStrata({"plan", config, "--json"});
  EXPECT_EQ(again.exit_code, 0) << again.err;
  Outcome json = RunStrata({"plan", "--model", "gpt2", "--gpu", "rtx4090", "--host-mem", "64GiB",
                            "--nvme", "2x3.84TB@6/3GB/s", "--seq", "256", "--json"});
  EXPECT_EQ(JsonValue(again.out, "predicted_step_s"), JsonValue(json.out, "predicted_step_s"));
}

TEST_F(ProgramTest, PlanComparesStagesAndOffloads) {
  Outcome outcome =
      RunStrata({"plan", "--model", "gpt2", "--gpus", "2", "--nvme", "1", "--host-mem", "8GiB",
                 "--gpu-mem", "6GiB", "--seq", "64", "--table", "--largest", "--json"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  nlohmann::json json = nlohmann::json::parse(outcome.out);
  ASSERT_EQ(json["table"].size(), 16u);
  for (const nlohmann::json& row : json["table"]) {
    if (row["fits"] == true) {
      EXPECT_GT(row["step_s"], 0);
    }
  }
  EXPECT_GT(json["largest"]["parameters"], json["parameters"]);
  // CUDA's, and what collectives receive into.
  EXPECT_EQ(json["gpu_bytes_beside_budget"], (512 + 64) << 20);
  double step_s = json["predicted_step_s"].get<double>();
  for (const auto& [lane, use] : json["lanes"].items()) {
    double seconds = use["busy_s"].get<double>() + use["idle_s"].get<double>();
    for (const auto& [reason, stalled] : use["stalled_s"].items()) seconds += stalled.get<double>();
    EXPECT_NEAR(seconds, step_s, 1e-6 * step_s) << lane;
  }
}

TEST_F(ProgramTest, PlanOfWhatDoesNotFitFailsAndSaysWhatToChange) {
  Outcome outcome = RunStrata({"plan", "--model", "gpt2", "--gpu-mem", "6GiB", "--host-mem", "8GiB",
                               "--nvme", "1", "--stage", "0", "--seq", "512", "--json"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, StartsWith("error: "));
  nlohmann::json json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json["fits"], false);
  ASSERT_FALSE(json["advice"].empty());
  EXPECT_EQ(json["advice"][0]["fits"], true);
}

TEST_F(ProgramTest, PlanRefusesFlagsThatItWouldHaveToGuess) {
  std::string config = WriteTinyConfig(directory_, 2);
  EXPECT_EQ(RunStrata({"plan", config, "--gpus", "4"}).exit_code, 2);
  EXPECT_EQ(RunStrata({"plan", "--model", "gpt2", "--gpu-mem", "80GB"}).exit_code, 2);
  EXPECT_EQ(RunStrata({"plan", "--model", "gpt2", "--nvme", "4@3GB"}).exit_code, 2);
  Outcome nothing = RunStrata({"plan"});
  EXPECT_EQ(nothing.exit_code, 1);
  EXPECT_THAT(nothing.err, HasSubstr("--model"));
  Outcome unknown = RunStrata({"plan", "--model", "gpt5"});
  EXPECT_EQ(unknown.exit_code, 1);
  EXPECT_THAT(unknown.err, HasSubstr("llama-65b"));
}

TEST_F(ProgramTest, PlanShowsMemoryTrafficAndTimeAndWritesNothing) {
  std::string config = WriteTinyConfig(directory_, 2);
  Outcome outcome = RunStrata({"plan", config});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out,
              AllOf(HasSubstr("planned peak"), HasSubstr("bytes per step"), HasSubstr("predicted"),
                    HasSubstr("bound"), HasSubstr("stalled on")));
  EXPECT_FALSE(fs::exists(directory_ + "/run"));
  EXPECT_TRUE(fs::is_empty(directory_ + "/nvme"));
}

TEST_F(ProgramTest, PlanSaysWhereKeptGradientsAreAtHome) {
  const std::vector<std::string> plan = {"plan",  STRATA_SOURCE_DIR "/configs/llama-300m-nvme.toml",
                                         "--set", "train.gradient_clipping=1.0",
                                         "--set", "model.num_hidden_layers=8",
                                         "--set", "memory.device=160MiB",
                                         "--set", "memory.host=200MiB"};
  Outcome outcome = RunStrata(plan);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, testing::ContainsRegex("gradients are kept until the norm is known: "
                                                  ".* on device, .*on nvme"));
  std::vector<std::string> as_json = plan;
  as_json.push_back("--json");
  const nlohmann::json json = nlohmann::json::parse(RunStrata(as_json).out);
  uint64_t bytes = 0;
  for (const auto& [tier, part] : json["kept_gradient_bytes"].items())
    bytes += part.get<uint64_t>();
  EXPECT_GE(json["kept_gradient_bytes"].size(), 2u);
  EXPECT_GE(bytes, 2 * json["parameters"].get<uint64_t>());  // bf16, and padding
}

TEST_F(ProgramTest, TrainingLeavesWhatItSaysItLeaves) {
  Outcome outcome =
      RunStrata({"train", WriteTinyConfig(directory_, 8), "--set", "train.trace_steps=8"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out,
              AllOf(HasSubstr("step 8/8"), HasSubstr("stalled on"), HasSubstr("strata export"),
                    Not(HasSubstr("\x1b")), Not(HasSubstr("\r"))));
  EXPECT_EQ(ReadJsonLines(Run("metrics.jsonl")).size(), 8u);
  EXPECT_THAT(ReadFile(Run("config.toml")), HasSubstr("keep_last = 1"));
  // keep_last = 1 of the checkpoints at 7 and 8.
  EXPECT_FALSE(fs::exists(Run("checkpoints/step-000007")));
  EXPECT_TRUE(fs::exists(Run("checkpoints/step-000008/manifest.json")));
  EXPECT_TRUE(nlohmann::json::parse(ReadFile(Run("plan.json"))).contains("nodes"));
}

// The union of a lane's spans is what the metrics call busy, so both must tell the same story.
TEST_F(ProgramTest, TraceAndMetricsAgree) {
  Outcome outcome =
      RunStrata({"train", WriteTinyConfig(directory_, 3), "--set", "train.trace_steps=3", "--set",
                 "train.clip_mode=norm_first"});  // one kind of step: all are traced
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  nlohmann::json trace = nlohmann::json::parse(ReadFile(Run("trace.json")));
  std::map<int, std::string> processes;
  std::map<std::pair<int, int>, std::string> lanes;
  std::map<std::string, double> traced_bytes;
  std::map<std::string, double> traced_us;
  std::map<std::string, double> stalled_us;
  for (const nlohmann::json& event : trace["traceEvents"]) {
    int pid = event["pid"].get<int>();
    if (event["name"] == "process_name") processes[pid] = event["args"]["name"];
    if (event["name"] == "thread_name") {
      lanes[{pid, event["tid"].get<int>()}] = event["args"]["name"];
    }
  }
  for (const nlohmann::json& event : trace["traceEvents"]) {
    if (event["ph"] != "X" || processes[event["pid"].get<int>()] != "measured") continue;
    const std::string& lane = lanes[{event["pid"].get<int>(), event["tid"].get<int>()}];
    if (event["cat"] == "stall") {
      stalled_us[lane] += event["dur"].get<double>();
      continue;
    }
    traced_bytes[lane] += event["args"]["bytes"].get<double>();
    traced_us[lane] += event["dur"].get<double>();
  }
  // Below every measured node stands the predicted one.
  std::map<std::string, int> num_nodes;
  for (const nlohmann::json& event : trace["traceEvents"]) {
    if (event["ph"] == "X" && event["cat"] != "stall") {
      ++num_nodes[processes[event["pid"].get<int>()]];
    }
  }
  EXPECT_EQ(num_nodes["measured"], num_nodes["simulated"]);
  std::map<std::string, double> metric_bytes;
  std::map<std::string, double> metric_us;
  std::map<std::string, double> metric_stalled_us;
  for (const nlohmann::json& step : ReadJsonLines(Run("metrics.jsonl"))) {
    for (const auto& [lane, use] : step["lanes"].items()) {
      metric_bytes[lane] += use["bytes"].get<double>();
      metric_us[lane] += use["busy_s"].get<double>() * 1e6;
      if (!use.contains("stalled_s")) continue;
      for (const auto& [reason, seconds] : use["stalled_s"].items()) {
        metric_stalled_us[lane] += seconds.get<double>() * 1e6;
      }
    }
  }
  for (const char* lane : {"h2d", "d2h", "compute", "cpu", "nvme-read", "nvme-write"}) {
    EXPECT_EQ(traced_bytes[lane], metric_bytes[lane]) << lane;
  }
  // Serial lanes: no overlap, so the sum of the spans is the union. Microseconds with three digits
  // and a few hundred spans: 1 us per lane is far more than rounding.
  for (const char* lane : {"h2d", "d2h", "compute", "cpu"}) {
    EXPECT_NEAR(traced_us[lane], metric_us[lane], 1.0) << lane;
    EXPECT_NEAR(stalled_us[lane], metric_stalled_us[lane], 1.0) << lane;
  }
}

// Whole runs of the program on each instruction set of this machine: a run may move to another.
TEST_F(ProgramTest, EveryInstructionSetTrainsToTheSameBits) {
  std::map<std::string, std::set<std::string>> hashes;  // by what is computed
  for (std::string_view isa : engine::InstructionSets()) {
    setenv("STRATA_MAX_ISA", std::string(isa).c_str(), 1);
    for (const char* precision : {"bf16", "fp32", "fp16"}) {
      for (const char* state : {"fp32", "int8"}) {
        if (std::string_view(state) == "int8" && std::string_view(precision) != "bf16") continue;
        const std::string of = fmt::format("{} {}", precision, state);
        const std::string directory = fmt::format("{}/{}-{}-{}", directory_, isa, precision, state);
        Outcome run = RunStrata({"train", WriteTinyConfig(directory, 3), "--json", "--set",
                                 std::string("train.precision=") + precision, "--set",
                                 std::string("optimizer.state=") + state});
        EXPECT_EQ(run.exit_code, 0) << of << run.err;
        hashes[of].insert(JsonValue(run.out, "state_hash"));
      }
    }
    unsetenv("STRATA_MAX_ISA");
  }
  EXPECT_EQ(hashes.size(), 4u);
  for (const auto& [of, seen] : hashes) EXPECT_EQ(seen.size(), 1u) << of;
}

TEST_F(ProgramTest, AnUnknownInstructionSetIsRefused) {
  setenv("STRATA_MAX_ISA", "avx9000", 1);
  Outcome outcome = RunStrata({"train", WriteTinyConfig(directory_, 1)});
  unsetenv("STRATA_MAX_ISA");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("STRATA_MAX_ISA"), HasSubstr("avx9000")));
}

TEST_F(ProgramTest, CtrlCCommitsTheStepUnderWayAndResumeEndsWithTheSameBits) {
  std::string calm = directory_ + "/calm";
  Outcome expected = RunStrata({"train", WriteTinyConfig(calm, 60), "--json"});
  ASSERT_EQ(expected.exit_code, 0) << expected.err;
  std::string config = WriteTinyConfig(directory_, 60);
  Outcome stopped =
      RunStrata({"train", config, "--json"},
                Disturbance{.signal_number = SIGINT, .when_out_contains = "{\"step\":5,"});
  ASSERT_EQ(stopped.exit_code, 130) << stopped.err;
  EXPECT_EQ(JsonValue(stopped.out, "stopped"), "true");
  EXPECT_GE(std::stoi(JsonValue(stopped.out, "steps_done")), 5);
  Outcome rest = RunStrata({"train", config, "--resume", "--json"});
  ASSERT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_EQ(JsonValue(rest.out, "state_hash"), JsonValue(expected.out, "state_hash"));
  // One line per step, none twice.
  std::vector<nlohmann::json> lines = ReadJsonLines(Run("metrics.jsonl"));
  ASSERT_EQ(lines.size(), 60u);
  for (size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i]["step"], i + 1);
}

TEST_F(ProgramTest, ExportWritesADirectoryAndRefusesToReplaceOne) {
  ASSERT_EQ(RunStrata({"train", WriteTinyConfig(directory_, 2)}).exit_code, 0);
  std::string to = directory_ + "/exported";
  for (const char* dtype : {"bf16", "fp32"}) {
    std::string target = to + dtype;
    Outcome outcome = RunStrata({"export", directory_ + "/run", "--to", target, "--dtype", dtype});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_TRUE(fs::exists(target + "/model.safetensors"));
    EXPECT_TRUE(fs::exists(target + "/config.json"));
  }
  Outcome again = RunStrata({"export", directory_ + "/run", "--to", to + "bf16"});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.err, HasSubstr(to + "bf16"));
}

// What was exported is what a new run starts from: import is the inverse of export.
// In parts of one size, in parts of another, and whole: a file knows nothing of them.
TEST_F(ProgramTest, AnExportedModelTrainsOnFromItsWeights) {
  ASSERT_EQ(RunStrata({"train", WriteTinyConfig(directory_, 2), "--set", "model.part_size=16KiB"})
                .exit_code,
            0);
  std::string exported = directory_ + "/exported";
  ASSERT_EQ(
      RunStrata({"export", directory_ + "/run", "--to", exported, "--dtype", "fp32"}).exit_code, 0);
  std::string other = directory_ + "/other";
  std::string config = WriteTinyConfig(other, 1);
  std::string text = ReadFile(config);
  size_t model = text.find("vocab_size");
  size_t data = text.find("[data]");
  std::ofstream(config) << text.substr(0, model) << "weights = \"" << exported << "\"\n"
                        << text.substr(data);
  // With lr = 0 the state keeps the imported weights: exporting it again gives the same file.
  for (std::string size : {"512MiB", "20KiB"}) {
    Outcome outcome = RunStrata({"train", config, "--json", "--overwrite", "--set",
                                 "optimizer.lr=0.0", "--set", "model.part_size=" + size});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    std::string again = directory_ + "/again" + size;
    ASSERT_EQ(RunStrata({"export", other + "/run", "--to", again, "--dtype", "fp32"}).exit_code, 0);
    EXPECT_TRUE(ReadFile(again + "/model.safetensors") ==
                ReadFile(exported + "/model.safetensors"));
  }
}

TEST_F(ProgramTest, ExportOfNothingNamesTheDirectory) {
  Outcome outcome = RunStrata({"export", directory_, "--to", directory_ + "/x"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr(directory_));
  EXPECT_FALSE(fs::exists(directory_ + "/x"));
}

TEST_F(ProgramTest, DoctorSaysWhatThereIsAndWhatTrainingRunsOn) {
  const std::string config = WriteTinyConfig(directory_, 2);
  Outcome words = RunStrata({"doctor", config});
  EXPECT_EQ(words.exit_code, 0);
  EXPECT_THAT(words.out,
              AllOf(HasSubstr("[train] device = \"cpu\""), HasSubstr("trains on cpu"),
                    HasSubstr("cuBLASLt"), HasSubstr("io_uring"), HasSubstr(directory_ + "/nvme")));
  Outcome outcome = RunStrata({"doctor", config, "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  std::vector<std::string> subjects;
  const nlohmann::json json = nlohmann::json::parse(outcome.out);
  for (const auto& subject : json["subjects"]) subjects.push_back(subject["subject"]);
  EXPECT_THAT(subjects, IsSupersetOf({"training", "GPUs", "libraries", "machine"}));
  Outcome absent = RunStrata({"doctor", config, "--set", "train.device=cuda:99"});
  EXPECT_EQ(absent.exit_code, 0);
  EXPECT_THAT(absent.out, AllOf(HasSubstr("cannot be had"), HasSubstr("problem")));
}

TEST_F(ProgramTest, DoctorPrintsAHardwareSectionThatPlanTakes) {
  std::string config = WriteTinyConfig(directory_, 2);
  std::string section = directory_ + "/hardware.toml";
  Outcome outcome = RunStrata({"doctor", config, "--measure", "--write", section});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(StartsWith("[hardware]"), HasSubstr("nvme_mixed_bytes_per_s"),
                                 HasSubstr("compute_default_per_s"), HasSubstr("node_latency_s"),
                                 HasSubstr("\"adam\"")));
  std::ofstream(config, std::ios::app) << ReadFile(section);
  Outcome plan = RunStrata({"plan", config});
  EXPECT_EQ(plan.exit_code, 0) << plan.err;
  EXPECT_TRUE(fs::is_empty(directory_ + "/nvme"));
}

}  // namespace
}  // namespace strata::tools
