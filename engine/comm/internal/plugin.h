// The transport is a shared library of its own, loaded when there is more than one rank, so that
// the program starts where the message-passing library is not installed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/comm/internal/transport.h"
#include "engine/comm/rank_environment.h"

namespace strata::engine {

// What the shared library holds, under the name kTransportPluginSymbol. It passes our own C++
// types, so it must be of this very build: `build` is compared.
struct TransportPlugin {
  const char* build;
  // Joins the job. Called once at a time.
  Result<std::unique_ptr<Transport>> (*join)(const RankEnvironment& environment);
  std::string (*describe)();  // "Open MPI v4.1.4"
};
inline constexpr const char* kTransportPluginSymbol = "strata_transport_plugin";
inline constexpr const char* kTransportPluginBuild = STRATA_PLUGIN_BUILD;

// The file that would be loaded; empty where there is none.
std::string FindTransportPlugin(const std::string& path);

// Loads it, and keeps it: the library has threads. An empty path: beside the program, or where it
// is installed. kUnavailable naming the paths and the packages.
Result<const TransportPlugin*> LoadTransportPlugin(const std::string& path);

}  // namespace strata::engine
