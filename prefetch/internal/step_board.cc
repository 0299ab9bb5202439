#include "prefetch/internal/step_board.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace strata::prefetch {
namespace {

double Seconds(tiering::Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
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
  std::unique_lock lock(mutex_);
  step_moves_.wait(lock, [&] { return num_in_step_ == 0; });
  quit_ = true;
  step_begins_.notify_all();
}

Status StepBoard::BeginStep() {
  std::lock_guard lock(mutex_);
  STRATA_CHECK(num_in_step_ == 0);
  if (stopped_) return failure_;
  std::fill(states_.begin(), states_.end(), NodeState{});
  num_in_step_ = waiters_.size();
  begin_ = last_end_ = tiering::Clock::now();
  ++steps_;
  step_begins_.notify_all();
  return OkStatus();
}

Status StepBoard::AwaitEnd(std::chrono::milliseconds stall_deadline) {
  std::unique_lock lock(mutex_);
  while (num_in_step_ > 0) {
    const Time deadline = last_end_ + stall_deadline;
    step_moves_.wait_until(lock, deadline, [&] { return num_in_step_ == 0; });
    const bool stalled = num_in_step_ > 0 && tiering::Clock::now() >= last_end_ + stall_deadline;
    if (!stalled) continue;
    Stop(StallFailure(stall_deadline));
    return failure_;
  }
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
  last_end_ = tiering::Clock::now();
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

// A failure that came before the stall stays the one reported.
Status StepBoard::StallFailure(std::chrono::milliseconds stall_deadline) const {
  const std::string what = fmt::format("no node of the step has ended for {} ms: {}",
                                       stall_deadline.count(), DescribeStall());
  if (failure_.ok()) return {Code::kDeadlineExceeded, what};
  return {failure_.code(), fmt::format("{} (and then {})", failure_.message(), what)};
}

std::string StepBoard::DescribeStall() const {
  std::array<bool, kNumLanes> described{};
  std::string text;
  for (NodeIndex node = 0; node < states_.size(); ++node) {
    bool& lane_described = described[static_cast<size_t>(plan_.nodes[node].lane)];
    if (states_[node].done || lane_described) continue;
    lane_described = true;
    if (!text.empty()) text += "; ";
    text += DescribeLane(node);
  }
  return text.empty() ? "all nodes have ended, a thread is still at work" : text;
}

std::string StepBoard::DescribeLane(NodeIndex current) const {
  std::string text =
      fmt::format("lane {} is at node {} ({}), ", LaneName(plan_.nodes[current].lane), current,
                  NodeName(plan_, current));
  std::string missing;
  for (NodeIndex dep : plan_.nodes[current].deps) {
    if (states_[dep].done) continue;
    missing +=
        fmt::format("{}node {} ({})", missing.empty() ? "" : ", ", dep, NodeName(plan_, dep));
  }
  return text + (missing.empty() ? "which is under way" : "which waits for " + missing);
}

}  // namespace strata::prefetch
