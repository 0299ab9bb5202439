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
  explicit TraceWriter(const StepPlan& plan) : plan_(plan) {}

  // `begins_s`: by step, when it starts.
  void AddProcess(int pid, const NamedTimelines& process, const std::vector<double>& begins_s) {
    AddMetadata("process_name", pid, 0, process.name);
    for (size_t lane = 0; lane < kNumLanes; ++lane) {
      AddMetadata("thread_name", pid, lane + 1, std::string(LaneName(Lane(lane))));
    }
    for (size_t i = 0; i < process.steps.size(); ++i) {
      const auto lanes = NodesByLane(plan_, process.steps[i]);
      for (const std::vector<NodeIndex>& nodes : lanes) {
        AddLane(pid, begins_s[i], process.steps[i], nodes);
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
  void AddLane(int pid, double begin_s, const Timeline& step, const std::vector<NodeIndex>& nodes) {
    double covered_s = 0;
    for (NodeIndex node : nodes) {
      const Span& span = step.spans[node];
      const double shown_s = std::min(std::max(span.start_s, covered_s), span.end_s);
      const double end_s = span.end_s;
      if (span.start_s > covered_s) AddStall(pid, begin_s, step, node, covered_s);
      covered_s = std::max(covered_s, end_s);
      Add({{"ph", "X"},
           {"name", NodeName(plan_, node)},
           {"cat", LaneName(plan_.nodes[node].lane)},
           {"pid", pid},
           {"tid", static_cast<size_t>(plan_.nodes[node].lane) + 1},
           {"ts", (begin_s + shown_s) * 1e6},
           {"dur", (end_s - shown_s) * 1e6},
           {"args",
            {{"node", node},
             {"bytes", MovedBytes(plan_, plan_.nodes[node])},
             {"waited_for", WaitedFor(step, node)}}}});
    }
  }

  void AddStall(int pid, double begin_s, const Timeline& step, NodeIndex node, double since_s) {
    const double until_s = step.spans[node].start_s;
    Add({{"ph", "X"},
         {"name", "waits: " + StallReason(plan_, step, node, since_s)},
         {"cat", "stall"},
         {"pid", pid},
         {"tid", static_cast<size_t>(plan_.nodes[node].lane) + 1},
         {"ts", (begin_s + since_s) * 1e6},
         {"dur", (until_s - since_s) * 1e6},
         {"args", {{"next", NodeName(plan_, node)}, {"waited_for", WaitedFor(step, node)}}}});
  }

  std::string WaitedFor(const Timeline& step, NodeIndex node) const {
    const std::optional<NodeIndex> last = LastDependency(plan_, step, node);
    return last ? NodeName(plan_, *last) : "start";
  }

  const StepPlan& plan_;
  std::string text_;
};

}  // namespace

namespace {

// A step starts when the one before has ended in every process: the same steps of all stand below
// each other.
std::vector<double> StepBegins(const std::vector<NamedTimelines>& processes) {
  std::vector<double> begins_s = {0};
  for (size_t step = 0;; ++step) {
    double longest_s = -1;
    for (const NamedTimelines& process : processes)
      if (step < process.steps.size()) longest_s = std::max(longest_s, process.steps[step].step_s);
    if (longest_s < 0) return begins_s;
    begins_s.push_back(begins_s.back() + longest_s);
  }
}

}  // namespace

std::string ChromeTrace(const StepPlan& plan, const std::vector<NamedTimelines>& processes) {
  TraceWriter writer(plan);
  const std::vector<double> begins_s = StepBegins(processes);
  int pid = 0;
  for (const NamedTimelines& process : processes) writer.AddProcess(++pid, process, begins_s);
  return writer.Finish();
}

}  // namespace strata::prefetch
