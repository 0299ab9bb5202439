#include "engine/train/measure_ops.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "engine/train/ranks.h"
#include "engine/train/step_runner.h"

namespace strata::engine {
namespace {

using Bytes = std::span<std::byte>;
using prefetch::Hardware;
using prefetch::NodeIndex;

constexpr size_t kPasses = 3;
constexpr double kPassSeconds = 4;
constexpr size_t kMostSamples = 8;  // of a kind in a pass

// Ops that move a handful of bytes: their time is latency.
bool IsTiny(const prefetch::TraceOp& op) {
  static const std::set<std::string> kTiny = {"batch", "clip", "report"};
  return kTiny.contains(op.kind);
}

const prefetch::TraceOp& OpOf(const PlannedRun& run, NodeIndex node) {
  return run.plan.trace.ops[Index(run.plan.nodes[node].op)];
}

// The first `num_samples` of each kind, in the order of the plan.
std::vector<NodeIndex> SampleNodes(const PlannedRun& run, bool has_others, size_t num_samples) {
  std::map<std::string, size_t> taken;
  std::vector<NodeIndex> samples;
  for (NodeIndex node = 0; node < run.plan.nodes.size(); ++node) {
    if (run.plan.nodes[node].kind != prefetch::NodeKind::kRun) continue;
    const prefetch::TraceOp& op = OpOf(run, node);
    if (IsTiny(op) || (op.lane == prefetch::Lane::kComm && !has_others)) continue;
    if (taken[op.kind]++ < num_samples) samples.push_back(node);
  }
  return samples;
}

struct Work {
  double amount = 0;  // of TraceOp::work
  double seconds = 0;
};
using WorkByKind = std::map<std::string, Work>;

class OpMeter {
 public:
  OpMeter(const PlannedRun& run, tiering::Device& device, const tiering::Arena& host,
          StepRunner& runner)
      : run_(run),
        device_(device),
        host_(host),
        runner_(runner),
        stream_(device.CreateStream("measure")) {
    runner_.BeginStep({.program = &run.program});
  }

  // Small finite numbers in all formats.
  void Fill(const std::vector<NodeIndex>& nodes) {
    constexpr uint16_t kHundredth = 0x3c24;
    for (NodeIndex node : nodes) {
      for (Bytes block : OperandsOf(node)) {
        auto* words = reinterpret_cast<uint16_t*>(block.data());
        std::fill(words, words + block.size() / 2, kHundredth);
      }
    }
  }

  Result<WorkByKind> Pass(const std::vector<NodeIndex>& nodes) {
    WorkByKind work;
    for (NodeIndex node : nodes) {
      const prefetch::TraceOp& op = OpOf(run_, node);
      STRATA_ASSIGN_OR_RETURN(const double seconds, SecondsOf(node));
      work[op.kind].amount += op.work;
      work[op.kind].seconds += seconds;
    }
    return work;
  }

 private:
  Bytes BytesOf(const prefetch::Slot& slot, uint64_t size) const {
    return slot.tier == prefetch::Tier::kHost ? host_.Slot(slot.offset_bytes, size)
                                              : device_.memory().subspan(slot.offset_bytes, size);
  }

  // What must be sensible, and another op may have written over: tokens, and factors, which would
  // make numbers so small that the machine is slow with them.
  static void Refill(const std::string& purpose, Bytes operand) {
    constexpr double kOne = 1;
    if (purpose == "batch") std::memset(operand.data(), 0, operand.size());
    if (purpose != "scalars") return;
    for (size_t at = 0; at + sizeof(kOne) <= operand.size(); at += sizeof(kOne))
      std::memcpy(operand.data() + at, &kOne, sizeof(kOne));
  }

  std::vector<Bytes> OperandsOf(NodeIndex index) const {
    const prefetch::Node& node = run_.plan.nodes[index];
    const prefetch::TraceOp& op = OpOf(run_, index);
    std::vector<Bytes> operands;
    for (size_t i = 0; i < op.accesses.size(); ++i) {
      const auto& block = run_.plan.trace.blocks[Index(op.accesses[i].block)];
      operands.push_back(BytesOf(node.operands[i], block.size_bytes));
      Refill(block.purpose, operands[i]);
    }
    return operands;
  }

  Result<double> SecondsOf(NodeIndex index) {
    const prefetch::Node& node = run_.plan.nodes[index];
    const std::vector<Bytes> blocks = OperandsOf(index);
    prefetch::Operands operands{.blocks = blocks, .workspace = {}};
    if (node.workspace)
      operands.workspace = BytesOf(*node.workspace, OpOf(run_, index).workspace_bytes);
    const auto begin = tiering::Clock::now();
    STRATA_RETURN_IF_ERROR(RunOn(node, operands));
    return std::chrono::duration<double>(tiering::Clock::now() - begin).count();
  }

  Status RunOn(const prefetch::Node& node, const prefetch::Operands& operands) {
    if (node.lane == prefetch::Lane::kCpu) return runner_.Run(node.op, operands, {});
    stream_->Launch([&](const tiering::StreamContext& context) {
      return runner_.Run(node.op, operands, context);
    });
    return stream_->Record().Wait();
  }

  const PlannedRun& run_;
  tiering::Device& device_;
  const tiering::Arena& host_;
  StepRunner& runner_;
  std::unique_ptr<tiering::DeviceStream> stream_;
};

StepRunnerOptions MeterOptions(const PlannedRun& run) {
  StepRunnerOptions options;
  options.train_batch_size = run.config.train.train_batch_size;
  options.threads = run.threads;
  return options;
}

// As many of each kind as a pass has time for, by the time that one of each takes; as many on all
// ranks.
Result<std::vector<NodeIndex>> ChooseSamples(const PlannedRun& run, Communicator& communicator,
                                             OpMeter& meter) {
  const bool has_others = communicator.world_size() > 1;
  const std::vector<NodeIndex> one_of_each = SampleNodes(run, has_others, 1);
  meter.Fill(one_of_each);
  STRATA_RETURN_IF_ERROR(meter.Pass(one_of_each).status());
  STRATA_ASSIGN_OR_RETURN(const WorkByKind work, meter.Pass(one_of_each));
  double seconds = 0;
  for (const auto& [kind, one] : work) seconds += one.seconds;
  const double fit = kPassSeconds / std::max(seconds, 1e-6);
  uint64_t num_samples = static_cast<uint64_t>(std::clamp<double>(fit, 1, kMostSamples));
  STRATA_ASSIGN_OR_RETURN(const auto of_ranks, FromAllRanks(communicator, {num_samples}));
  for (const std::vector<uint64_t>& of_rank : of_ranks)
    num_samples = std::min(num_samples, of_rank[0]);
  return SampleNodes(run, has_others, num_samples);
}

// The median pass.
double RateOf(const std::string& kind, std::vector<WorkByKind>& passes) {
  std::vector<double> rates;
  for (WorkByKind& pass : passes) rates.push_back(pass[kind].amount / pass[kind].seconds);
  std::nth_element(rates.begin(), rates.begin() + kPasses / 2, rates.end());
  return rates[kPasses / 2];
}

// What kinds that were not measured go by: the matrix products' rate over one of each kind of op,
// and that of the update.
void SetDefaults(const PlannedRun& run, Hardware& hardware) {
  const std::vector<prefetch::TraceOp>& ops = run.program.trace.ops;
  std::map<std::string, double> flops;
  for (size_t i = 0; i < ops.size(); ++i) {
    if (!hardware.rates.contains(ops[i].kind)) continue;
    OpRole role = run.program.payloads[i].role;
    if (CountsFlops(role)) flops[ops[i].kind] = ops[i].work;
    if (role == OpRole::kUpdate && ops[i].lane == prefetch::Lane::kCpu) {
      hardware.cpu_default_per_s = hardware.rates.at(ops[i].kind);
    }
  }
  double work = 0, seconds = 0;
  for (const auto& [kind, one] : flops) {
    work += one;
    seconds += one / hardware.rates.at(kind);
  }
  if (seconds > 0) hardware.compute_default_per_s = work / seconds;
}

}  // namespace

Status MeasureOps(const PlannedRun& run, tiering::Device& device, const tiering::Arena& host,
                  Communicator& communicator, Hardware& hardware) {
  STRATA_ASSIGN_OR_RETURN(
      StepRunner runner,
      StepRunner::Create({&run.layout, run.model.get(), run.kernels.get(), nullptr, &communicator},
                         MeterOptions(run)));
  OpMeter meter(run, device, host, runner);
  STRATA_ASSIGN_OR_RETURN(const std::vector<NodeIndex> nodes,
                          ChooseSamples(run, communicator, meter));
  meter.Fill(nodes);
  STRATA_RETURN_IF_ERROR(meter.Pass(nodes).status());  // does not count
  std::vector<WorkByKind> passes;
  for (size_t i = 0; i < kPasses; ++i) {
    STRATA_ASSIGN_OR_RETURN(passes.emplace_back(), meter.Pass(nodes));
  }
  for (const auto& [kind, work] : passes[0]) hardware.rates[kind] = RateOf(kind, passes);
  SetDefaults(run, hardware);
  return OkStatus();
}

}  // namespace strata::engine
