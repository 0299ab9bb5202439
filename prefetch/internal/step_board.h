// What the threads of a step tell each other: which nodes are issued, which are done, who failed.
//
// One mutex. A thread waits for one node at a time on a condition variable of its own, and whoever
// issues or ends a node wakes only those who wait for that node.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "prefetch/executor.h"
#include "prefetch/step_plan.h"
#include "prefetch/timeline.h"
#include "tiering/device.h"

namespace strata::prefetch {

// A device node's place on its stream.
struct StreamPlace {
  tiering::DeviceEvent start;
  tiering::DeviceEvent end;
};

// Thread-safe.
class StepBoard {
 public:
  using Time = tiering::Clock::time_point;

  // One thread's place to sleep.
  class Waiter {
   private:
    friend class StepBoard;
    std::condition_variable wake_;
    std::optional<NodeIndex> node_;
  };

  explicit StepBoard(const StepPlan& plan) : plan_(plan), states_(plan.nodes.size()) {}

  // The life of a step's threads. Each is added once, before the first step; waits for the next
  // step (false: there is none any more, the thread ends); and leaves the step it has seen.
  void AddThread(Waiter* waiter);
  // A thread is missing: no step can begin.
  void MissThread(const Status& status);
  bool AwaitStep(uint64_t* steps_seen);
  void LeaveStep();
  void Quit();

  // The owner's side of a step. BeginStep fails when a thread is missing. AwaitEnd returns when all
  // threads have left.
  Status BeginStep();
  Status AwaitEnd();
  Timeline TakeTimeline();

  // As the executor's.
  StepProgress progress() const;
  std::string DescribeLanes() const;

  // False at once when the step has been stopped.
  bool AwaitDone(Waiter& waiter, NodeIndex node);
  // False when the step has been stopped before `node` was issued. One that was issued is to be
  // waited for, stopped or not.
  bool AwaitIssued(Waiter& waiter, NodeIndex node);
  // Waits until `node` is done, `until` holds, or the step is stopped (and was not yet, as far as
  // the caller knew). `until` is asked under the lock, at first and after each Wake().
  template <typename Until>
  void AwaitAny(Waiter& waiter, std::optional<NodeIndex> node, bool knew_stopped, Until until) {
    std::unique_lock lock(mutex_);
    Await(lock, waiter, node,
          [&] { return until() || (node && states_[*node].done) || (stopped_ && !knew_stopped); });
  }
  // Both call `function` under that lock; Wake() wakes the waiter, too.
  template <typename Function>
  auto Locked(Function function) {
    std::lock_guard lock(mutex_);
    return function();
  }
  template <typename Function>
  void Wake(Waiter& waiter, Function function) {
    std::lock_guard lock(mutex_);
    function();
    waiter.wake_.notify_one();
  }

  void Issue(NodeIndex node, StreamPlace place);
  void Done(NodeIndex node, Time start, Time end);
  // The first failure is the step's and stops it.
  void Fail(NodeIndex node, const Status& status);

  // The step has failed: start nothing more. Once true, true for good.
  bool stopped() const;
  // Of an issued node.
  StreamPlace PlaceOf(NodeIndex node) const;
  std::optional<NodeIndex> FirstUndone(const std::vector<NodeIndex>& nodes) const;

 private:
  struct NodeState {
    bool issued = false;
    bool done = false;
    StreamPlace place;
    Time start;
    Time end;
  };

  template <typename Until>
  void Await(std::unique_lock<std::mutex>& lock, Waiter& waiter, std::optional<NodeIndex> node,
             Until until) {
    waiter.node_ = node;
    waiter.wake_.wait(lock, until);
    waiter.node_.reset();
  }
  void WakeThoseAwaiting(NodeIndex node);
  void Stop(Status failure);
  // The first node of each lane that is not done.
  std::vector<NodeIndex> Current() const;
  std::vector<NodeIndex> MissingFor(NodeIndex node) const;
  std::string DescribeLane(NodeIndex current) const;

  const StepPlan& plan_;
  mutable std::mutex mutex_;
  std::vector<NodeState> states_;
  std::vector<Waiter*> waiters_;
  std::condition_variable step_begins_;
  std::condition_variable step_moves_;  // for the owner
  uint64_t steps_ = 0;
  size_t num_in_step_ = 0;
  bool quit_ = false;
  bool stopped_ = false;
  Status failure_;
  Time begin_;
  uint64_t nodes_ended_ = 0;
};

}  // namespace strata::prefetch
