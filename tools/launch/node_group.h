// The nodes of a per-node start, as node 0's launcher knows them: waits until all have registered
// and agree, hands them the daemons that mpirun wants there, tells them the end.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "tools/launch/channel.h"
#include "tools/launch/event_loop.h"
#include "tools/launch/job.h"
#include "tools/launch/job_output.h"
#include "tools/launch/messages.h"

namespace strata::launch {

// What of `other` differs from `own` in a way that they cannot run one job; empty if nothing does.
std::string Disagreement(const NodeHello& own, const NodeHello& other);

class NodeGroup {
 public:
  struct Callbacks {
    std::function<void()> on_complete;
    // A node that does not fit, was lost, or did not come.
    std::function<void(const std::string& text)> on_failure;
    std::function<void(int signal_number)> on_stop_wanted;
  };
  NodeGroup(EventLoop& loop, const Job& job, NodeHello own, JobOutput& output, Callbacks callbacks);
  ~NodeGroup();
  NodeGroup(const NodeGroup&) = delete;

  // Of channels that are open and belong to nodes.
  void OnMessage(Channel* node, Message type, std::string_view payload);
  void OnClosed(Channel* channel, const Status& why);

  // Has every other node start its ranks. Once complete.
  void StartRanks(const launch::StartRanks& order);

  // mpirun's relay wants a daemon on a node.
  void RunDaemonFor(Channel* relay, const RunDaemon& wanted);

  // Hosts and slots in node order. Once complete.
  Layout LayoutOf() const;
  // Of the node with the fewest.
  uint32_t num_cores() const;

  void TellEnd(const JobEnded& end);

 private:
  struct Node {
    NodeHello hello;
    Channel* channel = nullptr;  // nullptr: this one, or gone
    Channel* relay = nullptr;
    bool has_daemon = false;
  };

  void OnHello(Channel* channel, std::string_view payload);
  void OnDaemonEnded(Channel* channel, std::string_view payload);
  Node* NodeOf(Channel* channel);
  void Refuse(Channel* channel, const std::string& text);
  void Fail(const std::string& text);
  void TellWhoIsMissing();

  EventLoop& loop_;
  const Job& job_;
  JobOutput& output_;
  Callbacks callbacks_;
  std::map<uint32_t, Node> nodes_;
  EventLoop::Clock::time_point begin_;
  std::optional<EventLoop::TimerId> timer_;
  bool ended_ = false;
};

}  // namespace strata::launch
