#include "tools/launch/node_group.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace strata::launch {
namespace {

using namespace std::chrono_literals;

constexpr auto kTellEvery = 10s;

std::string NameOf(const NodeHello& node) {
  return fmt::format("node-rank {} ({})", node.node_rank, node.host);
}

}  // namespace

std::string Disagreement(const NodeHello& own, const NodeHello& other) {
  const std::string here = NameOf(own);
  const std::string there = NameOf(other);
  const auto differ = [&](const char* what, const auto& a, const auto& b) {
    return fmt::format("{} has {} {}, {} has {}", here, what, a, there, b);
  };
  if (own.version != other.version)
    return differ("strata", own.version, other.version) + ": install the same on every node";
  if (own.program_hash != other.program_hash) {
    return fmt::format(
        "{} and {} run different builds of the program: install the same on every "
        "node",
        here, there);
  }
  if (own.nnodes != other.nnodes) return differ("--nnodes", own.nnodes, other.nnodes);
  if (own.comm != other.comm) {
    return fmt::format(
        "ranks would meet through {} on {} and through {} on {}: give --comm tcp, or install "
        "OpenMPI, on every node",
        own.comm, here, other.comm, there);
  }
  if (own.command != other.command)
    return differ("to run", fmt::format("'{}'", own.command), fmt::format("'{}'", other.command));
  if (own.config_hash != other.config_hash) {
    return fmt::format(
        "the files that '{}' names are not the same on {} and {}: copy them from one "
        "to the other",
        own.command, here, there);
  }
  if (other.node_rank >= own.nnodes)
    return fmt::format("{}: there are {} nodes", there, own.nnodes);
  if (own.host == other.host && own.boot_id == other.boot_id) {
    return fmt::format(
        "node-ranks {} and {} are the same machine, {}: start one launcher there, "
        "with a larger --nproc-per-node",
        std::min(own.node_rank, other.node_rank), std::max(own.node_rank, other.node_rank),
        own.host);
  }
  return {};
}

NodeGroup::NodeGroup(EventLoop& loop, const Job& job, NodeHello own, JobOutput& output,
                     Callbacks callbacks)
    : loop_(loop),
      job_(job),
      output_(output),
      callbacks_(std::move(callbacks)),
      begin_(EventLoop::Clock::now()) {
  nodes_[own.node_rank].hello = std::move(own);
  timer_ = loop_.After({}, [this] { TellWhoIsMissing(); });
}

NodeGroup::~NodeGroup() {
  if (timer_) loop_.Cancel(*timer_);
}

void NodeGroup::TellWhoIsMissing() {
  timer_.reset();
  std::vector<uint32_t> missing;
  for (uint32_t rank = 0; rank < job_.layout.size(); ++rank)
    if (!nodes_.contains(rank)) missing.push_back(rank);
  if (missing.empty() || ended_) return;
  const std::string who = fmt::format("{} of {} nodes: node-rank {}", missing.size(),
                                      job_.layout.size(), FormatNumbers(missing));
  if (EventLoop::Clock::now() - begin_ >= job_.wait) {
    return Fail(
        fmt::format("waited {} s in vain for {}: start the same command there with that "
                    "--node-rank, and --master-addr {} --master-port {}",
                    job_.wait.count(), who, job_.master_addr, job_.master_port));
  }
  output_.Say("waiting for " + who);
  const auto left = job_.wait - (EventLoop::Clock::now() - begin_);
  timer_ = loop_.After(std::min<EventLoop::Clock::duration>(kTellEvery, left),
                       [this] { TellWhoIsMissing(); });
}

NodeGroup::Node* NodeGroup::NodeOf(Channel* channel) {
  for (auto& [rank, node] : nodes_)
    if (channel != nullptr && node.channel == channel) return &node;
  return nullptr;
}

void NodeGroup::OnMessage(Channel* channel, Message type, std::string_view payload) {
  if (type == Message::kNodeHello) return OnHello(channel, payload);
  // Nothing else counts from who has not said who it is, or was refused.
  if (NodeOf(channel) == nullptr) return;
  if (type == Message::kDaemonEnded) OnDaemonEnded(channel, payload);
  if (type == Message::kStopWanted) {
    Result<uint32_t> number = ParseNumber(payload);
    if (number.ok() && *number < 65) callbacks_.on_stop_wanted(static_cast<int>(*number));
  }
}

void NodeGroup::OnHello(Channel* channel, std::string_view payload) {
  Result<NodeHello> hello = Decode<NodeHello>(payload);
  if (!hello.ok() || NodeOf(channel) != nullptr || ended_) return;
  const NodeHello& own = nodes_.at(0).hello;
  if (hello->job_id != own.job_id) {
    // Not ours: that it knocks at the wrong door is its failure alone.
    const std::string text = fmt::format("this is job '{}', {} belongs to job '{}'", own.job_id,
                                         NameOf(*hello), hello->job_id);
    output_.Say("refused: " + text);
    return Refuse(channel, text);
  }
  if (const std::string text = Disagreement(own, *hello); !text.empty()) {
    Refuse(channel, text);
    return Fail(text);
  }
  if (auto there = nodes_.find(hello->node_rank); there != nodes_.end()) {
    const std::string text = fmt::format("two nodes have --node-rank {}: {} and {}",
                                         hello->node_rank, there->second.hello.host, hello->host);
    Refuse(channel, text);
    return Fail(text);
  }
  output_.Say(fmt::format("{} registered from {}", NameOf(*hello), channel->peer()));
  nodes_[hello->node_rank] = {.hello = *hello, .channel = channel};
  channel->Send(static_cast<char>(Message::kNodeWelcome), "");
  if (nodes_.size() < job_.layout.size()) return;
  if (timer_) loop_.Cancel(*timer_);
  timer_.reset();
  callbacks_.on_complete();
}

void NodeGroup::Refuse(Channel* channel, const std::string& text) {
  channel->Send(static_cast<char>(Message::kJobEnded),
                Encode(JobEnded{.exit_code = 1, .text = "error: " + text}));
}

void NodeGroup::Fail(const std::string& text) {
  if (ended_) return;
  callbacks_.on_failure(text);
}

void NodeGroup::OnClosed(Channel* channel, const Status& why) {
  for (auto& [rank, node] : nodes_)
    if (node.relay == channel) node.relay = nullptr;
  Node* node = NodeOf(channel);
  if (node == nullptr) return;
  node->channel = nullptr;
  if (node->relay != nullptr && node->relay->is_open()) {
    node->relay->Send(
        static_cast<char>(Message::kDaemonEnded),
        Encode(DaemonEnded{
            .node_rank = node->hello.node_rank, .exit_code = 255, .text = why.message()}));
  }
  Fail(fmt::format("{} was lost: {}", NameOf(node->hello), why.message()));
}

void NodeGroup::RunDaemonFor(Channel* relay, const RunDaemon& wanted) {
  auto node = nodes_.find(wanted.node_rank);
  const bool is_possible =
      node != nodes_.end() && node->second.channel != nullptr && !node->second.has_daemon;
  if (!is_possible) {
    relay->Send(static_cast<char>(Message::kDaemonEnded),
                Encode(DaemonEnded{.node_rank = wanted.node_rank,
                                   .exit_code = 255,
                                   .text = "no such node, or it has its daemon"}));
    return;
  }
  node->second.relay = relay;
  node->second.has_daemon = true;
  node->second.channel->Send(static_cast<char>(Message::kRunDaemon), Encode(wanted));
}

void NodeGroup::StartRanks(const launch::StartRanks& order) {
  for (auto& [rank, node] : nodes_) {
    if (node.channel != nullptr && node.channel->is_open())
      node.channel->Send(static_cast<char>(Message::kStartRanks), Encode(order));
  }
}

void NodeGroup::OnDaemonEnded(Channel* channel, std::string_view payload) {
  Result<DaemonEnded> ended = Decode<DaemonEnded>(payload);
  Node* node = NodeOf(channel);
  if (!ended.ok()) return;
  if (job_.comm == Comm::kTcp && ended->exit_code != 0) {
    return Fail(fmt::format("{}: what starts its ranks ended with exit code {}{}{}",
                            NameOf(node->hello), ended->exit_code, ended->text.empty() ? "" : ":\n",
                            ended->text));
  }
  if (node->relay == nullptr || !node->relay->is_open()) return;
  ended->node_rank = node->hello.node_rank;
  node->relay->Send(static_cast<char>(Message::kDaemonEnded), Encode(*ended));
}

Layout NodeGroup::LayoutOf() const {
  Layout layout;
  for (const auto& [rank, node] : nodes_) {
    std::vector<uint32_t> slots(node.hello.num_slots);
    std::iota(slots.begin(), slots.end(), 0u);
    layout.push_back({node.hello.host, node.hello.num_slots, std::move(slots)});
  }
  return layout;
}

uint32_t NodeGroup::num_cores() const {
  uint32_t fewest = nodes_.at(0).hello.num_cores;
  for (const auto& [rank, node] : nodes_) fewest = std::min(fewest, node.hello.num_cores);
  return fewest;
}

void NodeGroup::TellEnd(const JobEnded& end) {
  ended_ = true;
  for (auto& [rank, node] : nodes_) {
    if (node.channel != nullptr && node.channel->is_open())
      node.channel->Send(static_cast<char>(Message::kJobEnded), Encode(end));
  }
}

}  // namespace strata::launch
