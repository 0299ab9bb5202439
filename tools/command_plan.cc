#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "aio/file.h"
#include "engine/cluster/cluster.h"
#include "engine/cluster/comparison.h"
#include "engine/cluster/largest_model.h"
#include "engine/cluster/scaling.h"
#include "engine/config/run_config.h"
#include "engine/train/planning.h"
#include "engine/train/run_device.h"
#include "tools/cluster_text.h"
#include "tools/commands.h"
#include "tools/plan_text.h"
#include "tools/print.h"
#include "tools/scaling_text.h"

namespace strata::tools {
namespace {

using engine::OffloadDevice;
using nlohmann::ordered_json;

// What is asked, with everything that it needs.
struct Question {
  engine::RunConfig config;
  prefetch::Hardware hardware;
  engine::Limits limits = {};
};

// As far from the GPU as there is a place for it.
engine::ZeroChoice ChoiceOf(const PlanArguments& arguments) {
  engine::ZeroChoice choice = arguments.choice;
  OffloadDevice farthest =
      arguments.cluster.drives.count > 0 ? OffloadDevice::kNvme : OffloadDevice::kCpu;
  if (!arguments.has_optimizer && choice.stage >= 1) choice.optimizer = farthest;
  if (!arguments.has_weights && choice.stage == 3) choice.weights = farthest;
  return choice;
}

Status WriteConfig(const PlanArguments& arguments, const engine::RunConfig& config) {
  if (arguments.write_config.empty()) return OkStatus();
  return aio::WriteFileAtomically(arguments.write_config, engine::ToToml(config));
}

Result<Question> AskAboutCluster(const PlanArguments& arguments) {
  const engine::Cluster& cluster = arguments.cluster;
  STRATA_ASSIGN_OR_RETURN(engine::LlamaConfig model, engine::ModelShape(arguments.workload.model));
  engine::ZeroChoice choice = ChoiceOf(arguments);
  STRATA_ASSIGN_OR_RETURN(
      engine::RunConfig config,
      engine::MakeRunConfig(cluster, model, arguments.workload, choice, arguments.sets));
  STRATA_RETURN_IF_ERROR(WriteConfig(arguments, config));
  Question question{.config = std::move(config), .hardware = engine::HardwareOf(cluster)};
  question.limits.nvme_paths = engine::PathsOf(cluster.drives);
  question.limits.nvme_capacity_bytes =
      cluster.drives.count * cluster.drives.capacity_bytes / cluster.gpus_per_node;
  return question;
}

Result<Question> AskAboutConfig(const PlanArguments& arguments) {
  STRATA_ASSIGN_OR_RETURN(engine::RunConfig config,
                          engine::LoadRunConfig(arguments.config, arguments.sets));
  // For a plan no GPU need be there, and one is like the other.
  if (config.train.device.kind == engine::DeviceChoice::Kind::kAuto) {
    STRATA_ASSIGN_OR_RETURN(engine::ChosenDevice chosen, engine::ChooseDevice(config.train.device));
    config.train.device = chosen.device;
  }
  config.train.device.gpu.reset();
  Question question{.config = config, .hardware = engine::HardwareOf(config)};
  question.limits.nvme_paths = engine::StoreDirectoriesOf(config);
  question.limits.nvme_capacity_bytes = engine::kUnknownCapacity;
  return question;
}

Result<Question> Ask(const PlanArguments& arguments) {
  if (arguments.config.empty() && arguments.workload.model.empty()) {
    return InvalidArgument(
        "nothing to plan: name a configuration, or describe a run with --model, as in strata plan "
        "--model llama-7b --gpus 8 --nvme 8");
  }
  STRATA_ASSIGN_OR_RETURN(Question question, arguments.config.empty() ? AskAboutCluster(arguments)
                                                                      : AskAboutConfig(arguments));
  if (arguments.hardware.empty()) return question;
  STRATA_ASSIGN_OR_RETURN(question.hardware, engine::LoadHardware(arguments.hardware));
  question.config.hardware = question.hardware;
  return question;
}

// What an answer collects, for people and for scripts.
struct Answer {
  std::string text;
  ordered_json json = ordered_json::object();
  Status failure = {};  // of the run's own plan
};

Status AddPlan(const Question& question, Answer& answer) {
  Result<engine::PlannedRun> run = engine::PlanRun(question.config, question.hardware);
  if (run.ok()) {
    answer.text += DescribePlan(*run);
    answer.json = ordered_json::parse(PlanToJson(*run));
    answer.json["fits"] = true;
    return OkStatus();
  }
  if (run.status().code() != Code::kResourceExhausted) return run.status();
  answer.failure = run.status();
  answer.json["fits"] = false;
  answer.json["error"] = run.status().message();
  STRATA_ASSIGN_OR_RETURN(std::vector<engine::Advice> advice,
                          engine::AdviseOn(question.config, question.hardware, question.limits));
  answer.text += AdviceText(advice);
  answer.json["advice"] = ToJson(advice);
  return OkStatus();
}

// Keys that were given and change nothing, and what there is instead.
void AddWithoutEffect(const engine::RunConfig& config, Answer& answer) {
  for (const std::string& key : config.without_effect) {
    answer.text += "no effect: " + key + "\n";
    answer.json["without_effect"].push_back(key);
  }
}

Status AddTable(const Question& question, Answer& answer) {
  STRATA_ASSIGN_OR_RETURN(std::vector<engine::PlanOutcome> outcomes,
                          engine::Compare(question.config, question.hardware, question.limits));
  answer.text += "\n" + ComparisonTable(outcomes);
  for (const engine::PlanOutcome& outcome : outcomes)
    answer.json["table"].push_back(ToJson(outcome));
  return OkStatus();
}

// In place of a plan of the whole cluster, which is its last row.
Result<Answer> AnswerScaling(const PlanArguments& arguments) {
  if (arguments.table || arguments.largest || arguments.inference) {
    return InvalidArgument(
        "--scaling prints its table alone: ask for --table, --largest and --inference without it");
  }
  if (arguments.workload.model.empty()) {
    return InvalidArgument(
        "--scaling needs a run on a machine that is described: name its --model, as in strata plan "
        "--model llama-7b --gpus 8 --nodes 4 --scaling");
  }
  STRATA_ASSIGN_OR_RETURN(engine::LlamaConfig model, engine::ModelShape(arguments.workload.model));
  STRATA_ASSIGN_OR_RETURN(
      std::vector<engine::ScalingPoint> points,
      engine::Scale(arguments.cluster, model, arguments.workload, ChoiceOf(arguments),
                    arguments.sets, arguments.scaling_from));
  Answer answer;
  answer.text = DescribeCluster(arguments.cluster) + "\n" + ScalingTable(points);
  answer.json["scaling"] = ToJson(points);
  return answer;
}

Status AddLargest(const Question& question, Answer& answer) {
  STRATA_ASSIGN_OR_RETURN(
      engine::LlamaConfig largest,
      engine::LargestThatFits(question.config, question.limits.nvme_capacity_bytes));
  answer.text += "\n" + LargestText(question.config.model.llama, largest);
  answer.json["largest"] = ShapeJson(largest);
  return OkStatus();
}

Result<Answer> AnswerTo(const PlanArguments& arguments) {
  STRATA_ASSIGN_OR_RETURN(Question question, Ask(arguments));
  Answer answer;
  if (arguments.config.empty()) answer.text += DescribeCluster(arguments.cluster);
  STRATA_RETURN_IF_ERROR(AddPlan(question, answer));
  AddWithoutEffect(question.config, answer);
  if (arguments.table) STRATA_RETURN_IF_ERROR(AddTable(question, answer));
  if (arguments.largest) STRATA_RETURN_IF_ERROR(AddLargest(question, answer));
  if (arguments.inference) {
    answer.text += "\n" + InferenceText(question.config);
    answer.json["inference"] = InferenceJson(question.config);
  }
  return answer;
}

}  // namespace

int Plan(const PlanArguments& arguments) {
  Result<Answer> answer =
      arguments.scaling_from > 0 ? AnswerScaling(arguments) : AnswerTo(arguments);
  if (!answer.ok()) return Fail(answer.status());
  PrintText(arguments.json ? answer->json.dump() + "\n" : answer->text);
  Status printed = CheckOutput();
  if (!printed.ok()) return Fail(printed);
  return answer->failure.ok() ? kExitOk : Fail(answer->failure);
}

}  // namespace strata::tools
