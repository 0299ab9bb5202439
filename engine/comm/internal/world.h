// What all channels of a rank share: the map of ranks, memory, and how failures travel.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "engine/comm/communicator.h"
#include "engine/comm/internal/failure.h"
#include "engine/comm/internal/node_memory.h"
#include "engine/comm/internal/peer_watch.h"
#include "engine/comm/internal/questions.h"
#include "engine/comm/internal/rank_map.h"
#include "engine/comm/internal/traffic_counter.h"
#include "engine/comm/internal/transport.h"

namespace strata::engine {

// Thread-safe once created, but for memory().AddRegion().
class World {
 public:
  static Result<std::unique_ptr<World>> Create(std::unique_ptr<Transport> transport,
                                               const CommunicatorOptions& options);
  ~World();

  const RankMap& ranks() const { return ranks_; }
  NodeMemory& memory() { return memory_; }
  Transport& transport() { return *transport_; }
  TrafficCounter& counter() { return counter_; }
  std::chrono::milliseconds deadline() const { return deadline_; }
  RankBoard& BoardOf(uint32_t rank) { return memory_.board(rank - ranks_.first_of(ranks_.node())); }

  bool failed() const { return failure_.failed(); }
  // Calls something of the transport's, unless there was a failure: then the memory of messages
  // under way may be gone, and any call can move them on.
  template <typename Call>
  Status WithTransport(const Call& call) {
    std::shared_lock lock(transport_in_use_);
    return failed() ? failure_.status() : call();
  }
  // After a failure: waits until no thread is in such a call.
  void Quiesce() { std::unique_lock lock(transport_in_use_); }
  // The first failure, which `why` becomes if there was none; then the other ranks are told.
  Status Fail(const Status& why);
  // Looks whether a rank has failed or ended, or somebody told us so. `doing` is for the message,
  // and called only then.
  Status Check(const std::function<std::string()>& doing);
  // "rank 2 (pid 4711, stopped by a signal)".
  std::string Describe(uint32_t rank) const;
  // How the ranks get on and whom they wait for on a channel, by rank. Asks those of other nodes,
  // which takes a moment; fails if there is a failure meanwhile.
  Result<std::vector<Answer>> AskAll(ChannelId channel);
  // Whom `rank` waits for on a channel, and whom that one, and so on, to the one that waits for
  // nobody, is stopped or does not answer; and how that one gets on. Asks as AskAll() does.
  struct Culprit {
    uint32_t rank = 0;
    uint64_t progress = 0;
    friend bool operator==(const Culprit&, const Culprit&) = default;
  };
  Result<Culprit> FindCulprit(uint32_t rank, ChannelId channel);

  void ShowProgress(uint64_t progress);
  void CountWait() { waits_ended_.fetch_add(1, std::memory_order_relaxed); }
  Communicator::Waits waits() const;

 private:
  World(std::unique_ptr<Transport> transport, RankMap ranks, NodeMemory memory,
        std::vector<int64_t> processes, std::chrono::milliseconds deadline);

  std::optional<Status> FailureOfPeer();
  std::optional<Status> ReadNotices();
  // Of other nodes' ranks, what they answered since.
  Answer LookAt(uint32_t rank, ChannelId channel, Questions::Clock::time_point since);
  void TellOthers(const Status& why);

  RankMap ranks_;
  NodeMemory memory_;
  PeerWatch watch_;
  Questions questions_;
  std::shared_mutex transport_in_use_;
  Failure failure_;
  TrafficCounter counter_;
  std::atomic<uint64_t> waits_ended_ = 0;
  std::chrono::milliseconds deadline_;
  std::unique_ptr<Transport> transport_;  // ends before the memory that messages were in
};

}  // namespace strata::engine
