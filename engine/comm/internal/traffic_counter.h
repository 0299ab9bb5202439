// Counts what each kind of collective moved.
#pragma once

#include <mutex>

#include "engine/comm/communicator.h"

namespace strata::engine {

// Thread-safe.
class TrafficCounter {
 public:
  void Add(Collective collective, const Traffic& more) {
    std::lock_guard lock(mutex_);
    Traffic& traffic = traffic_[static_cast<size_t>(collective)];
    traffic.calls += more.calls;
    traffic.bytes_sent += more.bytes_sent;
    traffic.bytes_received += more.bytes_received;
    traffic.bytes_sent_between_nodes += more.bytes_sent_between_nodes;
    traffic.bytes_received_between_nodes += more.bytes_received_between_nodes;
  }
  TrafficByCollective Read() const {
    std::lock_guard lock(mutex_);
    return traffic_;
  }

 private:
  mutable std::mutex mutex_;
  TrafficByCollective traffic_;
};

}  // namespace strata::engine
