// The step of another system, written down as its authors describe it: transfers and work in the
// order in which that system issues them, each waiting for what that system waits for. The
// simulator of prefetch runs it on that system's hardware.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "prefetch/hardware.h"
#include "prefetch/step_plan.h"
#include "prefetch/timeline.h"

namespace strata::engine {

class PublishedStep {
 public:
  using Node = prefetch::NodeIndex;
  using Nodes = std::vector<Node>;

  Node Read(double bytes, Nodes after = {});
  Node Write(double bytes, Nodes after = {});
  Node ToDevice(double bytes, Nodes after = {});
  Node ToHost(double bytes, Nodes after = {});
  // `work` in what `kind`'s rate counts: flops on compute, parameters on cpu.
  Node Compute(const std::string& kind, double work, Nodes after = {});
  Node OnCpu(const std::string& kind, double work, Nodes after = {});

  prefetch::Timeline SimulateOn(const prefetch::Hardware& hardware) const;
  const prefetch::StepPlan& plan() const { return plan_; }

 private:
  Node Transfer(prefetch::NodeKind kind, prefetch::Lane lane, double bytes, Nodes after);
  Node Run(prefetch::Lane lane, const std::string& kind, double work, Nodes after);

  prefetch::StepPlan plan_;
};

}  // namespace strata::engine
