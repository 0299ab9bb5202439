#include "engine/comm/communicator.h"

namespace strata::engine {

Traffic Sum(const TrafficByCollective& traffic) {
  Traffic sum;
  for (const Traffic& one : traffic) {
    sum.calls += one.calls;
    sum.bytes_sent += one.bytes_sent;
    sum.bytes_received += one.bytes_received;
    sum.bytes_sent_between_nodes += one.bytes_sent_between_nodes;
    sum.bytes_received_between_nodes += one.bytes_received_between_nodes;
  }
  return sum;
}

}  // namespace strata::engine
