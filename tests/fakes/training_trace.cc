#include "tests/fakes/training_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace strata::fakes {
namespace {

using prefetch::Access;
using prefetch::AccessMode;
using prefetch::BlockId;
using prefetch::Lane;
using prefetch::Lifetime;
using prefetch::Tier;
using prefetch::Trace;
using prefetch::TraceOp;

struct Chunk {
  BlockId master, m, v;
  uint64_t num_elements;
};

struct Unit {
  std::string name;
  uint64_t num_elements;
  BlockId weights{}, gradient_sum{}, gradient{};
  std::vector<BlockId> inputs = {};  // by micro-batch
  std::vector<Chunk> chunks = {};
};

class Builder {
 public:
  explicit Builder(const TrainingTraceOptions& options) : options_(options) { MakeBlocks(); }

  Trace Build() && {
    for (uint32_t micro = 0; micro < options_.num_micro_batches; ++micro)
      AddOp(Lane::kCpu, "load", micro, 0, {{tokens_[micro], AccessMode::kWrite}});
    for (size_t u = 0; u + 1 < units_.size(); ++u) AddForward(u);
    AddHead();
    for (size_t u = units_.size(); u-- > 0;) AddBackward(u);
    if (options_.clip) AddCoefficient();
    if (options_.clip)
      for (const Unit& unit : units_) AddUpdates(unit);
    std::vector<Access> losses;
    for (BlockId loss : losses_) losses.push_back({loss, AccessMode::kRead});
    AddOp(Lane::kCpu, "report", 0, 0, std::move(losses));
    return std::move(trace_);
  }

 private:
  BlockId AddBlock(std::string name, const char* purpose, uint64_t size_bytes,
                   Lifetime lifetime = Lifetime::kStep, Tier home = Tier::kNvme) {
    trace_.blocks.push_back({std::move(name), purpose, size_bytes, lifetime, home});
    return static_cast<BlockId>(trace_.blocks.size() - 1);
  }

  void AddOp(Lane lane, const std::string& name, uint32_t micro, double work,
             std::vector<Access> accesses) {
    bool is_cpu = lane == Lane::kCpu;
    trace_.ops.push_back({.name = fmt::format("{} micro={}", name, micro),
                          .kind = name.substr(0, name.find(' ')),
                          .lane = lane,
                          .accesses = std::move(accesses),
                          .workspace_bytes = is_cpu ? options_.host_workspace_bytes
                                                    : options_.device_workspace_bytes,
                          .work = work});
  }

  void MakeBlocks() {
    for (uint32_t micro = 0; micro < options_.num_micro_batches; ++micro) {
      std::string suffix = fmt::format("micro={}", micro);
      tokens_.push_back(AddBlock("tokens " + suffix, "tokens", options_.num_tokens * 8));
      upstream_.push_back(AddBlock("upstream " + suffix, "activations", options_.hidden_bytes));
      losses_.push_back(AddBlock("loss " + suffix, "loss", 4));
    }
    MakeUnit("embedding", options_.embedding_elements);
    for (uint32_t layer = 0; layer < options_.num_layers; ++layer) {
      MakeUnit(fmt::format("layers.{}.attention", layer), options_.attention_elements);
      MakeUnit(fmt::format("layers.{}.mlp", layer), options_.mlp_elements);
    }
    MakeUnit("head", options_.embedding_elements);
    if (options_.clip) norm_ = AddBlock("norm", "norm", 8);
  }

  void MakeUnit(const std::string& name, uint64_t n) {
    Unit unit{.name = name, .num_elements = n};
    unit.weights =
        AddBlock(name + "/w", "weights", 2 * n, Lifetime::kPersistent, options_.weights_home);
    unit.gradient_sum = AddBlock(name + "/g32", "gradients", 4 * n);
    unit.gradient = AddBlock(name + "/g", "gradients", 2 * n);
    for (uint32_t micro = 0; micro < options_.num_micro_batches; ++micro)
      unit.inputs.push_back(units_.empty() ? tokens_[micro]
                                           : AddBlock(fmt::format("{}/x micro={}", name, micro),
                                                      "activations", options_.hidden_bytes));
    for (uint64_t begin = 0; begin < n; begin += options_.chunk_elements) {
      uint64_t size = std::min(options_.chunk_elements, n - begin);
      auto add = [&](const char* what) {
        return AddBlock(fmt::format("{}/{} from={}", name, what, begin), "optimizer", 4 * size,
                        Lifetime::kPersistent, options_.optimizer_home);
      };
      BlockId master = add("master"), m = add("m"), v = add("v");
      unit.chunks.push_back({master, m, v, size});
    }
    units_.push_back(std::move(unit));
  }

  double Flops(const Unit& unit) const {
    return 2.0 * static_cast<double>(unit.num_elements) * static_cast<double>(options_.num_tokens);
  }

  void AddForward(size_t u) {
    const Unit& unit = units_[u];
    for (uint32_t micro = 0; micro < options_.num_micro_batches; ++micro)
      AddOp(Lane::kCompute, "forward " + unit.name, micro, Flops(unit),
            {{unit.weights, AccessMode::kRead},
             {unit.inputs[micro], AccessMode::kRead},
             {units_[u + 1].inputs[micro], AccessMode::kWrite}});
  }

  static AccessMode Accumulate(uint32_t micro) {
    return micro == 0 ? AccessMode::kWrite : AccessMode::kReadWrite;
  }

  void AddHead() {
    const Unit& head = units_.back();
    for (uint32_t micro = 0; micro < options_.num_micro_batches; ++micro)
      AddOp(Lane::kCompute, "head", micro, 3 * Flops(head),
            {{head.weights, AccessMode::kRead},
             {head.inputs[micro], AccessMode::kRead},
             {upstream_[micro], AccessMode::kWrite},
             {head.gradient_sum, Accumulate(micro)},
             {losses_[micro], AccessMode::kWrite}});
  }

  void AddBackward(size_t u) {
    const Unit& unit = units_[u];
    bool is_head = u + 1 == units_.size();
    for (uint32_t micro = 0; micro < options_.num_micro_batches && !is_head; ++micro)
      AddOp(Lane::kCompute, "backward " + unit.name, micro, 3 * Flops(unit),
            {{unit.weights, AccessMode::kRead},
             {unit.inputs[micro], AccessMode::kRead},
             {upstream_[micro], AccessMode::kReadWrite},
             {unit.gradient_sum, Accumulate(micro)}});
    AddOp(Lane::kCompute, "cast " + unit.name, 0, static_cast<double>(unit.num_elements),
          {{unit.gradient_sum, AccessMode::kRead}, {unit.gradient, AccessMode::kWrite}});
    if (options_.clip)
      AddOp(Lane::kCpu, "norm " + unit.name, 0, 2.0 * static_cast<double>(unit.num_elements),
            {{unit.gradient, AccessMode::kRead},
             {norm_, is_head ? AccessMode::kWrite : AccessMode::kReadWrite}});
    else
      AddUpdates(unit);
  }

  void AddCoefficient() { AddOp(Lane::kCpu, "clip", 0, 0, {{norm_, AccessMode::kReadWrite}}); }

  void AddUpdates(const Unit& unit) {
    for (const Chunk& chunk : unit.chunks) {
      bool is_first = &chunk == &unit.chunks.front();
      std::vector<Access> accesses = {
          {chunk.master, AccessMode::kReadWrite},
          {chunk.m, AccessMode::kReadWrite},
          {chunk.v, AccessMode::kReadWrite},
          {unit.gradient, AccessMode::kRead},
          {unit.weights, is_first ? AccessMode::kWrite : AccessMode::kReadWrite}};
      if (options_.clip) accesses.push_back({norm_, AccessMode::kRead});
      AddOp(Lane::kCpu, fmt::format("adam {} chunk={}", unit.name, &chunk - unit.chunks.data()), 0,
            28.0 * static_cast<double>(chunk.num_elements), std::move(accesses));
    }
  }

  const TrainingTraceOptions& options_;
  Trace trace_;
  std::vector<Unit> units_;
  std::vector<BlockId> tokens_, upstream_, losses_;
  BlockId norm_{};
};

}  // namespace

Trace TrainingTrace(const TrainingTraceOptions& options) { return Builder(options).Build(); }

uint64_t NumParameters(const TrainingTraceOptions& options) {
  return 2 * options.embedding_elements +
         options.num_layers * (options.attention_elements + options.mlp_elements);
}

}  // namespace strata::fakes
