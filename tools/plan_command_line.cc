#include "tools/plan_command_line.h"

#include <fmt/format.h>

#include <limits>
#include <string>

#include "aio/base/units.h"

namespace strata::tools {
namespace {

using engine::OffloadDevice;

constexpr const char* kMachine = "A machine that is not there";
constexpr const char* kRun = "The run on it";
constexpr const char* kPrint = "What to print";

template <typename T>
std::string ErrorOf(const Result<T>& result) {
  return result.ok() ? "" : result.status().message();
}

// Of all options of one group, so that a configuration file excludes them.
class Group {
 public:
  Group(CLI::App* command, const char* name, CLI::Option* config)
      : command_(command), name_(name), config_(config) {}

  CLI::Option* Own(CLI::Option* option) {
    option->group(name_);
    if (config_ != nullptr) option->excludes(config_);
    return option;
  }
  template <typename T>
  CLI::Option* Value(const char* flag, T& value, const char* help) {
    return Own(command_->add_option(flag, value, help)->capture_default_str());
  }
  // `parse` turns the text into a Result, `set` takes its value.
  template <typename Parse, typename Set>
  CLI::Option* Parsed(const char* flag, const char* type, const char* help, Parse parse, Set set) {
    return Own(
        command_
            ->add_option_function<std::string>(
                flag, [parse, set](const std::string& text) { set(parse(text).value()); }, help)
            ->check([parse](const std::string& text) { return ErrorOf(parse(text)); })
            ->type_name(type));
  }

 private:
  CLI::App* command_;
  const char* name_;
  CLI::Option* config_;
};

Result<OffloadDevice> ParseDevice(const std::string& text) {
  if (text == "none") return OffloadDevice::kNone;
  if (text == "cpu") return OffloadDevice::kCpu;
  if (text == "nvme") return OffloadDevice::kNvme;
  return InvalidArgument(fmt::format("'{}' is none of none, cpu, nvme", text));
}

void AddMachine(Group group, engine::Cluster& cluster) {
  group
      .Parsed("--gpu", "NAME", "v100-32, a100-40, a100-80, h100-80, h200, rtx4090 or rtx-a5000",
              engine::FindGpuPreset,
              [&cluster](const engine::GpuPreset& gpu) { cluster.gpu = gpu; })
      ->default_str("a100-80");
  group.Value("--gpus", cluster.gpus_per_node, "GPUs of a node")->check(CLI::Range(1, 1024));
  group.Value("--nodes", cluster.nodes, "nodes")->check(CLI::Range(1, 65536));
  group.Parsed("--gpu-mem", "SIZE", "memory of a GPU instead of the preset's, as in 80GiB",
               ParseBytes, [&cluster](uint64_t bytes) { cluster.gpu.memory_bytes = bytes; });
  group
      .Parsed("--host-mem", "SIZE", "memory of a node, as in 1TiB", ParseBytes,
              [&cluster](uint64_t bytes) { cluster.host_bytes = bytes; })
      ->default_str("512GiB");
  group.Parsed("--nvme", "DRIVES",
               "drives of a node: 8, 8@6.5/4GB/s, 8x3.84TB@6.5/4GB/s or /nvme0,/nvme1; one reads "
               "6.5 and writes 4 GB/s and has 3.84 TB unless told otherwise",
               ParseDrives, [&cluster](const engine::Drives& drives) { cluster.drives = drives; });
  group
      .Parsed("--network", "RATE", "of a node, each direction", ParseRate,
              [&cluster](double rate) { cluster.network_bytes_per_s = rate; })
      ->default_str("25GB/s");
  group
      .Parsed("--host-rate", "RATE", "what the CPU's Adam gets of a node's memory", ParseRate,
              [&cluster](double rate) { cluster.host_memory_bytes_per_s = rate; })
      ->default_str("160GB/s");
  group.Value("--cores", cluster.cores, "cores of a node; 0: 16 per GPU");
  group
      .Parsed("--gpu-reserve", "SIZE", "of a GPU's memory, for its context and libraries",
              ParseBytes, [&cluster](uint64_t bytes) { cluster.gpu_reserve_bytes = bytes; })
      ->default_str("5GiB");
  group.Value("--host-reserve", cluster.host_reserve, "share of a node's memory for all else")
      ->check(CLI::Range(0.0, 0.99));
}

void AddRun(Group group, PlanArguments& arguments) {
  group
      .Value("--model", arguments.workload.model,
             "a preset (llama-65b), a Hugging Face directory, or a config.json")
      ->type_name("MODEL");
  group.Value("--stage", arguments.choice.stage, "of ZeRO")->check(CLI::Range(0, 3));
  group.Parsed("--offload-optimizer", "PLACE",
               "none, cpu or nvme; default: nvme with drives, else cpu", ParseDevice,
               [&arguments](OffloadDevice device) {
                 arguments.choice.optimizer = device;
                 arguments.has_optimizer = true;
               });
  group.Parsed("--offload-param", "PLACE", "the same for parameters, with stage 3", ParseDevice,
               [&arguments](OffloadDevice device) {
                 arguments.choice.weights = device;
                 arguments.has_weights = true;
               });
  group.Value("--micro-batch", arguments.workload.micro_batch, "sequences per GPU at a time")
      ->check(CLI::Range(1, 1 << 20));
  group.Value("--seq", arguments.workload.seq_len, "tokens of a sequence")
      ->check(CLI::Range(1, 1 << 24));
  group.Value("--batch", arguments.workload.train_batch_size,
              "sequences per step on all GPUs; 0: one micro-batch each");
  group.Value("--write-config", arguments.write_config, "write the run as a TOML file, too")
      ->type_name("FILE");
}

}  // namespace

void AddPlanOptions(CLI::App* command, PlanArguments* arguments) {
  arguments->cluster.gpu = engine::FindGpuPreset("a100-80").value();
  arguments->cluster.host_bytes = 512_GiB;
  CLI::Option* config =
      command->add_option("config", arguments->config, "the run's TOML file; or describe the run")
          ->type_name("CONFIG.toml");
  command
      ->add_option("--set", arguments->sets,
                   "override a key of the configuration, as in train.steps=20")
      ->type_name("A.B=C")
      ->take_all();
  AddRun(Group(command, kRun, config), *arguments);
  AddMachine(Group(command, kMachine, config), arguments->cluster);
  Group print(command, kPrint, nullptr);
  print
      .Value("--hardware", arguments->hardware,
             "rates from a file with a [hardware] section, as strata doctor --write makes it")
      ->type_name("FILE.toml");
  print.Own(command->add_flag("--table", arguments->table,
                              "compare stages 0 to 3 with every offload they have"));
  Group(command, kPrint, config)
      .Own(
          command->add_option("--scaling", arguments->scaling_from,
                              "the run on so many GPUs of the machine, twice as many..., each with "
                              "its batch; prints that table alone"))
      ->type_name("GPUS")
      ->check(CLI::Range(1, 1 << 20));
  print.Own(command->add_flag("--largest", arguments->largest,
                              "the largest model of this shape that fits"));
  print.Own(command->add_flag("--inference", arguments->inference,
                              "memory for generating with the model"));
  print.Own(command->add_flag("--json", arguments->json, "print JSON"));
}

}  // namespace strata::tools
