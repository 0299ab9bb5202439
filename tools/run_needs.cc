#include "tools/run_needs.h"

#include "tools/probes.h"
#include "tools/train_command_line.h"

namespace strata::tools {
namespace {

launch::RunNeeds NeedsOf(const engine::RunConfig& config) {
  using Kind = engine::DeviceChoice::Kind;
  const engine::DeviceChoice& device = config.train.device;
  launch::RunNeeds needs{
      .on_gpus = device.kind == Kind::kCuda || (device.kind == Kind::kAuto && HasCuda()),
      .gpu = device.gpu,
      .threads = config.train.threads};
  for (const engine::OffloadConfig* offload :
       {&config.zero.offload_param, &config.zero.offload_optimizer}) {
    if (offload->device != engine::OffloadDevice::kNvme) continue;
    needs.nvme_paths.insert(needs.nvme_paths.end(), offload->nvme_paths.begin(),
                            offload->nvme_paths.end());
  }
  return needs;
}

}  // namespace

launch::RunNeeds NeedsOf(const std::vector<std::string>& command, uint32_t world_size) {
  const std::optional<TrainArguments> arguments =
      ParseTrain({command.begin() + (command.empty() ? 0 : 1), command.end()});
  if (!arguments) return {};
  const Result<engine::RunConfig> config = LoadTrainConfig(*arguments, world_size);
  return config.ok() ? NeedsOf(*config) : launch::RunNeeds{};
}

}  // namespace strata::tools
