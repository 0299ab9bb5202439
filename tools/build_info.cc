#include "tools/build_info.h"

#include <fmt/format.h>
#include <hwloc.h>

#include "engine/comm/communicator.h"
#include "tools/probes.h"

namespace strata::tools {
namespace {

std::string DescribeMpi() {
  const Result<std::string> transport = engine::DescribeTransport();
  if (!transport.ok()) return "no MPI: " + transport.status().message();
  return "MPI: " + *transport;
}

}  // namespace

std::vector<std::string> BuiltWith() {
  unsigned hwloc = hwloc_get_api_version();
  return {fmt::format("hwloc API {}.{}", hwloc >> 16, (hwloc >> 8) & 0xff), DescribeCuda(),
          DescribeMpi()};
}

}  // namespace strata::tools
