#include "engine/comm/communicator.h"

namespace strata::engine {

std::string_view CollectiveName(Collective collective) {
  switch (collective) {
    case Collective::kAllGather:
      return "all-gather";
    case Collective::kReduceScatter:
      return "reduce-scatter";
    case Collective::kAllReduce:
      return "all-reduce";
    case Collective::kBroadcast:
      return "broadcast";
    case Collective::kBarrier:
      return "barrier";
    case Collective::kSum:
      return "sum";
  }
  return "unknown";
}

std::string_view ChannelName(ChannelId channel) {
  switch (channel) {
    case ChannelId::kControl:
      return "control";
    case ChannelId::kCommLane:
      return "comm lane";
    case ChannelId::kCpuLane:
      return "cpu lane";
    case ChannelId::kComputeLane:
      return "compute lane";
  }
  return "unknown";
}

}  // namespace strata::engine
