#include <fmt/format.h>

#include "engine/comm/communicator.h"
#include "engine/comm/internal/plugin.h"
#include "engine/comm/internal/ranked_communicator.h"
#include "engine/comm/tcp/tcp_transport.h"

namespace strata::engine {

namespace {

Result<std::unique_ptr<Transport>> Join(const RankEnvironment& environment,
                                        const CommunicatorOptions& options) {
  if (!environment.is_under_mpi && !environment.master_addr.empty())
    return JoinOverTcp(environment, options.deadline);
  STRATA_ASSIGN_OR_RETURN(const TransportPlugin* plugin, LoadTransportPlugin(options.plugin));
  return plugin->join(environment);
}

}  // namespace

Result<std::unique_ptr<Communicator>> MakeCommunicator(const RankEnvironment& environment,
                                                       const CommunicatorOptions& options) {
  if (environment.world_size == 1) return MakeSelfCommunicator();
  const auto join = [&]() -> Result<std::unique_ptr<Communicator>> {
    STRATA_ASSIGN_OR_RETURN(std::unique_ptr<Transport> transport, Join(environment, options));
    return MakeRankedCommunicator(std::move(transport), options);
  };
  return join().With(fmt::format(
      "{}={}",
      environment.world_size_variable.empty() ? "world size" : environment.world_size_variable,
      environment.world_size));
}

bool HasTransport(const std::string& plugin_path) {
  return !FindTransportPlugin(plugin_path).empty();
}

Result<std::string> DescribeTransport(const std::string& plugin_path) {
  STRATA_ASSIGN_OR_RETURN(const TransportPlugin* plugin, LoadTransportPlugin(plugin_path));
  return plugin->describe();
}

}  // namespace strata::engine
