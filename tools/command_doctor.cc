#include <fmt/format.h>

#include <cstdio>
#include <optional>

#include "aio/file.h"
#include "aio/io_engine.h"
#include "engine/config/run_config.h"
#include "engine/train/measure.h"
#include "engine/train/planning.h"
#include "engine/train/run_device.h"
#include "tiering/topology.h"
#include "tools/commands.h"
#include "tools/print.h"

namespace strata::tools {
namespace {

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

}  // namespace

int Doctor(const DoctorArguments& arguments) {
  if (arguments.ranks) return DoctorRanks(arguments);
  Result<tiering::Topology> topology = tiering::Topology::Detect();
  if (!topology.ok()) return Fail(topology.status());
  bool measures = arguments.measure || !arguments.write.empty();
  // The section alone goes to stdout when it is asked for, so that it can be redirected.
  fmt::print(measures ? stderr : stdout, "{}\n{}\n", topology->Describe(),
             topology->numa_nodes().size() > 1
                 ? "strata train binds the optimizer's threads to the NUMA nodes of host memory"
                 : "one NUMA node: strata train does not bind the optimizer's threads");
  if (!measures) return kExitOk;
  Result<std::string> section = Measure(arguments);
  if (!section.ok()) return Fail(section.status());
  PrintText(*section);
  Status written = CheckOutput();
  if (written.ok() && !arguments.write.empty()) {
    written = aio::WriteFileAtomically(arguments.write, *section);
  }
  return written.ok() ? kExitOk : Fail(written);
}

}  // namespace strata::tools
