#include "prefetch/internal/step_board.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace strata::prefetch {
namespace {

double Seconds(tiering::Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

// Of a node that waits for no other node.
std::string_view WhatItDoes(Lane lane) {
  switch (lane) {
    case Lane::kNvmeRead:
    case Lane::kNvmeWrite:
      return "waits for the drive";
    case Lane::kComm:
      return "waits for the other ranks";
    case Lane::kH2d:
    case Lane::kD2h:
      return "waits for the device";
    case Lane::kCompute:
    case Lane::kCpu:
      break;
  }
  return "has not ended";
}

}  // namespace

void StepBoard::AddThread(Waiter* waiter) {
  std::lock_guard lock(mutex_);
  waiters_.push_back(waiter);
}

void StepBoard::MissThread(const Status& status) {
  std::lock_guard lock(mutex_);
  if (!stopped_) Stop(status);
}

bool StepBoard::AwaitStep(uint64_t* steps_seen) {
  std::unique_lock lock(mutex_);
  step_begins_.wait(lock, [&] { return quit_ || steps_ > *steps_seen; });
  *steps_seen = steps_;
  return !quit_;
}

void StepBoard::LeaveStep() {
  std::lock_guard lock(mutex_);
  if (--num_in_step_ == 0) step_moves_.notify_one();
}

void StepBoard::Quit() {
  std::lock_guard lock(mutex_);
  STRATA_CHECK(num_in_step_ == 0);
  quit_ = true;
  step_begins_.notify_all();
}

Status StepBoard::BeginStep() {
  std::lock_guard lock(mutex_);
  STRATA_CHECK(num_in_step_ == 0);
  if (stopped_) return failure_;
  std::fill(states_.begin(), states_.end(), NodeState{});
  num_in_step_ = waiters_.size();
  begin_ = tiering::Clock::now();
  ++steps_;
  step_begins_.notify_all();
  return OkStatus();
}

Status StepBoard::AwaitEnd() {
  std::unique_lock lock(mutex_);
  step_moves_.wait(lock, [&] { return num_in_step_ == 0; });
  return failure_;
}

Timeline StepBoard::TakeTimeline() {
  std::lock_guard lock(mutex_);
  Timeline timeline;
  timeline.step_s = Seconds(tiering::Clock::now() - begin_);
  for (NodeIndex node = 0; node < states_.size(); ++node) {
    timeline.spans.push_back({.node = node,
                              .start_s = Seconds(states_[node].start - begin_),
                              .end_s = Seconds(states_[node].end - begin_)});
  }
  return timeline;
}

bool StepBoard::AwaitDone(Waiter& waiter, NodeIndex node) {
  std::unique_lock lock(mutex_);
  Await(lock, waiter, node, [&] { return stopped_ || states_[node].done; });
  return !stopped_;
}

bool StepBoard::AwaitIssued(Waiter& waiter, NodeIndex node) {
  std::unique_lock lock(mutex_);
  Await(lock, waiter, node, [&] { return stopped_ || states_[node].issued; });
  return states_[node].issued;
}

void StepBoard::Issue(NodeIndex node, StreamPlace place) {
  std::lock_guard lock(mutex_);
  states_[node].place = std::move(place);
  states_[node].issued = true;
  WakeThoseAwaiting(node);
}

void StepBoard::Done(NodeIndex node, Time start, Time end) {
  std::lock_guard lock(mutex_);
  NodeState& state = states_[node];
  state.start = start;
  state.end = end;
  state.done = true;
  ++nodes_ended_;
  WakeThoseAwaiting(node);
}

void StepBoard::Fail(NodeIndex node, const Status& status) {
  std::lock_guard lock(mutex_);
  if (!stopped_) Stop(status.With(NodeName(plan_, node)));
}

bool StepBoard::stopped() const {
  std::lock_guard lock(mutex_);
  return stopped_;
}

StreamPlace StepBoard::PlaceOf(NodeIndex node) const {
  std::lock_guard lock(mutex_);
  STRATA_CHECK(states_[node].issued);
  return states_[node].place;
}

std::optional<NodeIndex> StepBoard::FirstUndone(const std::vector<NodeIndex>& nodes) const {
  std::lock_guard lock(mutex_);
  for (NodeIndex node : nodes) {
    if (!states_[node].done) return node;
  }
  return std::nullopt;
}

void StepBoard::WakeThoseAwaiting(NodeIndex node) {
  for (Waiter* waiter : waiters_) {
    if (waiter->node_ == node) waiter->wake_.notify_one();
  }
}

void StepBoard::Stop(Status failure) {
  failure_ = std::move(failure);
  stopped_ = true;
  for (Waiter* waiter : waiters_) waiter->wake_.notify_one();
}

std::vector<NodeIndex> StepBoard::Current() const {
  std::array<bool, kNumLanes> is_seen{};
  std::vector<NodeIndex> current;
  for (NodeIndex node = 0; node < states_.size(); ++node) {
    bool& seen = is_seen[static_cast<size_t>(plan_.nodes[node].lane)];
    if (states_[node].done || seen) continue;
    seen = true;
    current.push_back(node);
  }
  return current;
}

std::vector<NodeIndex> StepBoard::MissingFor(NodeIndex node) const {
  std::vector<NodeIndex> missing;
  for (NodeIndex dep : plan_.nodes[node].deps)
    if (!states_[dep].done) missing.push_back(dep);
  return missing;
}

StepProgress StepBoard::progress() const {
  std::lock_guard lock(mutex_);
  StepProgress progress{.nodes_ended = nodes_ended_};
  if (num_in_step_ == 0) return progress;
  for (NodeIndex node : Current()) progress.lanes_working += MissingFor(node).empty() ? 1 : 0;
  // A thread is at the end of its part.
  if (progress.lanes_working == 0) progress.lanes_working = 1;
  return progress;
}

std::string StepBoard::DescribeLanes() const {
  std::lock_guard lock(mutex_);
  std::string text;
  const auto add = [&](const std::string& more) { text += (text.empty() ? "" : "; ") + more; };
  std::vector<NodeIndex> current = Current();
  std::stable_partition(current.begin(), current.end(),
                        [&](NodeIndex node) { return MissingFor(node).empty(); });
  for (NodeIndex node : current) add(DescribeLane(node));
  if (current.empty()) add("all nodes have ended, a thread is still at work");
  if (!failure_.ok()) add("before that the step had failed: " + failure_.message());
  return text;
}

std::string StepBoard::DescribeLane(NodeIndex current) const {
  const auto named = [&](NodeIndex node) {
    return fmt::format("{} (node {})", NodeName(plan_, node), node);
  };
  const Lane lane = plan_.nodes[current].lane;
  const std::vector<NodeIndex> missing = MissingFor(current);
  std::string what(WhatItDoes(lane));
  if (!missing.empty()) what = "waits for " + named(missing.front());
  if (missing.size() > 1) what += fmt::format(" and {} more", missing.size() - 1);
  return fmt::format("lane {}: {} {}", LaneName(lane), named(current), what);
}

}  // namespace strata::prefetch
