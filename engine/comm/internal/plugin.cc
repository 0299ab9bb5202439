#include "engine/comm/internal/plugin.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string_view>

#include "aio/base/dynamic_library.h"

namespace strata::engine {
namespace {

constexpr const char* kFileName = "strata_mpi.so";

std::vector<std::string> Candidates(const std::string& path) {
  if (!path.empty()) return {path};
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path folder = program.parent_path();
  return {(folder / kFileName).string(),
          (folder / STRATA_PLUGIN_DIR_FROM_PROGRAM / kFileName).lexically_normal().string()};
}

}  // namespace

std::string FindTransportPlugin(const std::string& path) {
  for (const std::string& candidate : Candidates(path))
    if (access(candidate.c_str(), R_OK) == 0) return candidate;
  return {};
}

Result<const TransportPlugin*> LoadTransportPlugin(const std::string& path) {
  const std::string found = FindTransportPlugin(path);
  if (found.empty()) {
    return Unavailable(
        fmt::format("the MPI plugin is missing: looked for {}: build with -DSTRATA_MPI=ON (Debian: "
                    "libopenmpi-dev "
                    "openmpi-bin) and install it with the program",
                    fmt::join(Candidates(path), " and ")));
  }
  const Result<DynamicLibrary> library = DynamicLibrary::Load(found);
  if (!library.ok()) {
    return Unavailable(
        fmt::format("{}: install Open MPI (Debian: openmpi-bin)", library.status().message()));
  }
  const auto* plugin = static_cast<const TransportPlugin*>(library->Find(kTransportPluginSymbol));
  if (plugin != nullptr && std::string_view(plugin->build) == kTransportPluginBuild) return plugin;
  return FailedPrecondition(
      fmt::format("{} is of another build ({}) than this program ({}): install both together",
                  found, plugin == nullptr ? "unknown" : plugin->build, kTransportPluginBuild));
}

}  // namespace strata::engine
