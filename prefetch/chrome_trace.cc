#include <algorithm>
#include <nlohmann/json.hpp>

#include "prefetch/internal/node_bytes.h"
#include "prefetch/internal/waits.h"
#include "prefetch/timeline.h"

namespace strata::prefetch {
namespace {

using Json = nlohmann::ordered_json;

// Collects events; each is turned into text at once, as a run has many.
class TraceWriter {
 public:
  // `begins_s`: by step, when it starts.
  void AddProcess(int pid, const TracedSteps& process, const std::vector<double>& begins_s) {
    AddMetadata("process_name", pid, 0, process.name);
    for (size_t lane = 0; lane < kNumLanes; ++lane) {
      AddMetadata("thread_name", pid, lane + 1, std::string(LaneName(Lane(lane))));
    }
    for (size_t i = 0; i < process.steps.size(); ++i) {
      const TracedStep& step = process.steps[i];
      for (const std::vector<NodeIndex>& nodes : NodesByLane(*step.plan, step.timeline)) {
        AddLane(pid, begins_s[i], step, nodes);
      }
    }
  }

  std::string Finish() { return "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[" + text_ + "]}\n"; }

 private:
  void Add(const Json& event) {
    if (!text_.empty()) text_ += ",\n";
    text_ += event.dump(-1, ' ', false, Json::error_handler_t::replace);
  }

  void AddMetadata(const char* what, int pid, size_t tid, const std::string& name) {
    Add({{"ph", "M"}, {"name", what}, {"pid", pid}, {"tid", tid}, {"args", {{"name", name}}}});
  }

  // Events of one track must not overlap, so I/O that was in flight together is shown from when the
  // one before it was over. The lane's events then add up to its busy time.
  void AddLane(int pid, double begin_s, const TracedStep& step,
               const std::vector<NodeIndex>& nodes) {
    double covered_s = 0;
    for (NodeIndex node : nodes) {
      const Span& span = step.timeline.spans[node];
      const double shown_s = std::min(std::max(span.start_s, covered_s), span.end_s);
      const double end_s = span.end_s;
      if (span.start_s > covered_s) AddStall(pid, begin_s, step, node, covered_s);
      covered_s = std::max(covered_s, end_s);
      Add({{"ph", "X"},
           {"name", NodeName(*step.plan, node)},
           {"cat", LaneName(step.plan->nodes[node].lane)},
           {"pid", pid},
           {"tid", static_cast<size_t>(step.plan->nodes[node].lane) + 1},
           {"ts", (begin_s + shown_s) * 1e6},
           {"dur", (end_s - shown_s) * 1e6},
           {"args",
            {{"node", node},
             {"bytes", MovedBytes(*step.plan, step.plan->nodes[node])},
             {"waited_for", WaitedFor(step, node)}}}});
    }
  }

  void AddStall(int pid, double begin_s, const TracedStep& step, NodeIndex node, double since_s) {
    const double until_s = step.timeline.spans[node].start_s;
    Add({{"ph", "X"},
         {"name", "waits: " + StallReason(*step.plan, step.timeline, node, since_s)},
         {"cat", "stall"},
         {"pid", pid},
         {"tid", static_cast<size_t>(step.plan->nodes[node].lane) + 1},
         {"ts", (begin_s + since_s) * 1e6},
         {"dur", (until_s - since_s) * 1e6},
         {"args", {{"next", NodeName(*step.plan, node)}, {"waited_for", WaitedFor(step, node)}}}});
  }

  static std::string WaitedFor(const TracedStep& step, NodeIndex node) {
    const std::optional<NodeIndex> last = LastDependency(*step.plan, step.timeline, node);
    return last ? NodeName(*step.plan, *last) : "start";
  }

  std::string text_;
};

}  // namespace

namespace {

// A step starts when the one before has ended in every process: the same steps of all stand below
// each other.
std::vector<double> StepBegins(const std::vector<TracedSteps>& processes) {
  std::vector<double> begins_s = {0};
  for (size_t step = 0;; ++step) {
    double longest_s = -1;
    for (const TracedSteps& process : processes)
      if (step < process.steps.size())
        longest_s = std::max(longest_s, process.steps[step].timeline.step_s);
    if (longest_s < 0) return begins_s;
    begins_s.push_back(begins_s.back() + longest_s);
  }
}

}  // namespace

std::string ChromeTrace(const std::vector<TracedSteps>& processes) {
  TraceWriter writer;
  const std::vector<double> begins_s = StepBegins(processes);
  int pid = 0;
  for (const TracedSteps& process : processes) writer.AddProcess(++pid, process, begins_s);
  return writer.Finish();
}

}  // namespace strata::prefetch
