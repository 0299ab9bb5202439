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
constexpr size_t kFillerBytes = size_t{1} << 20;

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
  Status Fill(const std::vector<NodeIndex>& nodes) {
    constexpr uint16_t kHundredth = 0x3c24;
    for (NodeIndex node : nodes) {
      for (const Operand& operand : OperandsOf(node))
        STRATA_RETURN_IF_ERROR(Fill(operand, &kHundredth, sizeof(kHundredth)));
    }
    return OkStatus();
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
  struct Operand {
    tiering::Tier tier;
    Bytes bytes;
    std::string_view purpose;
  };

  Bytes BytesOf(const prefetch::Slot& slot, uint64_t size) const {
    return slot.tier == prefetch::Tier::kHost ? host_.Slot(slot.offset_bytes, size)
                                              : device_.memory().subspan(slot.offset_bytes, size);
  }

  std::vector<Operand> OperandsOf(NodeIndex index) const {
    const prefetch::Node& node = run_.plan.nodes[index];
    const prefetch::TraceOp& op = OpOf(run_, index);
    std::vector<Operand> operands;
    for (size_t i = 0; i < op.accesses.size(); ++i) {
      const auto& block = run_.plan.trace.blocks[Index(op.accesses[i].block)];
      operands.push_back(
          {node.operands[i].tier, BytesOf(node.operands[i], block.size_bytes), block.purpose});
    }
    return operands;
  }

  // The value again and again, as often as it fits. Not the device's memory is written, but copied
  // to: the host may not touch it.
  Status Fill(const Operand& operand, const void* value, size_t value_bytes) {
    Bytes to = operand.bytes;
    const bool is_on_host = operand.tier == tiering::Tier::kHost;
    if (!is_on_host) filler_.resize(std::min<size_t>(to.size(), kFillerBytes));
    const Bytes from = is_on_host ? to : Bytes(filler_);
    for (size_t at = 0; at + value_bytes <= from.size(); at += value_bytes)
      std::memcpy(from.data() + at, value, value_bytes);
    if (is_on_host) return OkStatus();
    for (; !to.empty(); to = to.subspan(std::min(to.size(), from.size())))
      stream_->CopyIn(to.first(std::min(to.size(), from.size())),
                      from.first(std::min(to.size(), from.size())));
    return stream_->Record().Wait();
  }

  // What must be sensible, and another op may have written over: tokens, and factors, which would
  // make numbers so small that the machine is slow with them.
  Status Refill(const Operand& operand) {
    constexpr double kOne = 1;
    constexpr int32_t kToken = 0;
    if (operand.purpose == "batch") return Fill(operand, &kToken, sizeof(kToken));
    if (operand.purpose == "scalars") return Fill(operand, &kOne, sizeof(kOne));
    return OkStatus();
  }

  Result<double> SecondsOf(NodeIndex index) {
    const prefetch::Node& node = run_.plan.nodes[index];
    std::vector<Bytes> blocks;
    for (const Operand& operand : OperandsOf(index)) {
      STRATA_RETURN_IF_ERROR(Refill(operand));
      blocks.push_back(operand.bytes);
    }
    prefetch::Operands operands{.blocks = blocks, .workspace = {}};
    if (node.workspace)
      operands.workspace = BytesOf(*node.workspace, OpOf(run_, index).workspace_bytes);
    return node.lane == prefetch::Lane::kCpu ? SecondsOnHost(node.op, operands)
                                             : SecondsOnDevice(node.op, operands);
  }

  Result<double> SecondsOnHost(prefetch::OpId op, const prefetch::Operands& operands) {
    const auto begin = tiering::Clock::now();
    STRATA_RETURN_IF_ERROR(runner_.Run(op, operands, {}));
    return std::chrono::duration<double>(tiering::Clock::now() - begin).count();
  }

  // As a lane counts it: without the way to the device and back.
  Result<double> SecondsOnDevice(prefetch::OpId op, const prefetch::Operands& operands) {
    const tiering::DeviceEvent begin = stream_->Record();
    stream_->Launch(
        [&](const tiering::StreamContext& context) { return runner_.Run(op, operands, context); });
    const tiering::DeviceEvent end = stream_->Record();
    STRATA_RETURN_IF_ERROR(end.Wait());
    return std::chrono::duration<double>(end.time() - begin.time()).count();
  }

  const PlannedRun& run_;
  tiering::Device& device_;
  const tiering::Arena& host_;
  StepRunner& runner_;
  std::unique_ptr<tiering::DeviceStream> stream_;
  std::vector<std::byte> filler_;
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
  STRATA_RETURN_IF_ERROR(meter.Fill(one_of_each));
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
      StepRunner::Create({&run.layout, run.model.get(), run.kernels.get(), nullptr, &communicator,
                          nullptr, nullptr, run.device_adam.get()},
                         MeterOptions(run)));
  OpMeter meter(run, device, host, runner);
  STRATA_ASSIGN_OR_RETURN(const std::vector<NodeIndex> nodes,
                          ChooseSamples(run, communicator, meter));
  STRATA_RETURN_IF_ERROR(meter.Fill(nodes));
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
