#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <utility>
#include <vector>

#include "aio/file.h"
#include "aio/io_engine.h"
#include "aio/preflight.h"
#include "engine/config/run_config.h"
#include "engine/train/measure.h"
#include "engine/train/planning.h"
#include "engine/train/run_device.h"
#include "tiering/topology.h"
#include "tools/commands.h"
#include "tools/gpu_findings.h"
#include "tools/preflight_text.h"
#include "tools/print.h"
#include "tools/terminal.h"

namespace strata::tools {
namespace {

std::string DescribeTopology(const tiering::Topology& topology) {
  return fmt::format("{}\n{}\n", topology.Describe(),
                     topology.numa_nodes().size() > 1
                         ? "strata train binds the optimizer's threads to the NUMA nodes of host "
                           "memory"
                         : "one NUMA node: strata train does not bind the optimizer's threads");
}

Result<std::string> Measure(const DoctorArguments& arguments) {
  STRATA_ASSIGN_OR_RETURN(engine::RunConfig config,
                          engine::LoadRunConfig(arguments.config, arguments.sets));
  STRATA_ASSIGN_OR_RETURN(engine::ChosenDevice chosen, engine::ChooseDevice(config.train.device));
  config.train.device = chosen.device;
  STRATA_ASSIGN_OR_RETURN(engine::PlannedRun run,
                          engine::PlanRun(config, engine::HardwareOf(config)));
  STRATA_ASSIGN_OR_RETURN(auto device,
                          engine::CreateDevice(config.train.device, config.memory.device_bytes));
  STRATA_ASSIGN_OR_RETURN(tiering::Arena host,
                          tiering::Arena::Create("host", config.memory.host_bytes));
  STRATA_ASSIGN_OR_RETURN(const auto registration, device->RegisterHostMemory(host.bytes()));
  STRATA_ASSIGN_OR_RETURN(auto engine,
                          aio::IoEngine::Create(engine::IoEngineOptionsOf(config, host.bytes())));
  const std::unique_ptr<engine::Communicator> communicator = engine::MakeSelfCommunicator();
  STRATA_ASSIGN_OR_RETURN(
      prefetch::Hardware hardware,
      engine::MeasureHardware(run, {device.get(), &host, engine.get(), communicator.get()}));
  return engine::ToToml(hardware);
}

// "auto" or what the run says, and what that comes to here.
aio::Finding DeviceFinding(const engine::DeviceChoice& choice) {
  aio::Finding finding{.key = "device", .what = "[train] device = \"" + ToText(choice) + "\""};
  const Result<engine::ChosenDevice> chosen = engine::ChooseDevice(choice);
  if (!chosen.ok()) {
    finding.value = "cannot be had";
    finding.severity = aio::FindingSeverity::kProblem;
    finding.explanation = chosen.status().message();
    return finding;
  }
  finding.value = "trains on " + ToText(chosen->device);
  if (chosen->device.kind == engine::DeviceChoice::Kind::kCuda) {
    finding.value += ", " + chosen->reason;
  } else if (chosen->passes_over_gpu) {
    finding.severity = aio::FindingSeverity::kProblem;
    finding.explanation = chosen->reason;
  }
  return finding;
}

// GPUs, libraries, limits, and with a configuration its device and its drives.
Result<std::vector<aio::Preflight>> Look(const DoctorArguments& arguments) {
  engine::RunConfig config;
  if (!arguments.config.empty()) {
    STRATA_ASSIGN_OR_RETURN(config, engine::LoadRunConfig(arguments.config, arguments.sets));
  }
  std::vector<aio::Preflight> preflights = {{"training", {DeviceFinding(config.train.device)}}};
  const GpuFacts gpus = LookAtGpus();
  for (aio::Preflight& preflight : GpuFindings(gpus)) preflights.push_back(std::move(preflight));
  preflights.push_back(
      LibraryFindings(LookAtCudaLibraries(), gpus.gpus.ok() ? gpus.gpus->size() : 0));
  preflights.push_back(aio::CheckMachine());
  if (arguments.config.empty()) return preflights;
  for (const std::string& directory : engine::StoreDirectoriesOf(config))
    preflights.push_back(aio::CheckPath(directory));
  return preflights;
}

Status PrintFindings(const DoctorArguments& arguments) {
  STRATA_ASSIGN_OR_RETURN(const std::vector<aio::Preflight> preflights, Look(arguments));
  if (arguments.json) {
    PrintText(PreflightsToJson(preflights) + "\n");
    return CheckOutput();
  }
  STRATA_ASSIGN_OR_RETURN(const tiering::Topology topology, tiering::Topology::Detect());
  PrintText(DescribeTopology(topology) + "\n");
  PrintText(
      DescribePreflights(preflights, DetectTerminal(STDOUT_FILENO).colour, WidthOf(STDOUT_FILENO)));
  return CheckOutput();
}

// The section alone goes to stdout, so that it can be redirected.
Status PrintRates(const DoctorArguments& arguments) {
  STRATA_ASSIGN_OR_RETURN(const tiering::Topology topology, tiering::Topology::Detect());
  fmt::print(stderr, "{}\n", DescribeTopology(topology));
  STRATA_ASSIGN_OR_RETURN(const std::string section, Measure(arguments));
  PrintText(section);
  STRATA_RETURN_IF_ERROR(CheckOutput());
  if (arguments.write.empty()) return OkStatus();
  return aio::WriteFileAtomically(arguments.write, section);
}

}  // namespace

int Doctor(const DoctorArguments& arguments) {
  if (arguments.ranks) return DoctorRanks(arguments);
  const bool measures = arguments.measure || !arguments.write.empty();
  const Status status = measures ? PrintRates(arguments) : PrintFindings(arguments);
  return status.ok() ? kExitOk : Fail(status);
}

}  // namespace strata::tools
