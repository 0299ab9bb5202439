// A step program while it is written: its blocks, its ops, and who touched what first.
#pragma once

#include <set>
#include <string>
#include <utility>

#include "engine/zero/internal/program_blocks.h"

namespace strata::engine {

class ProgramWriter {
 public:
  // All references outlive it.
  ProgramWriter(const StateLayout& layout, const LlamaModel& model,
                const StepProgramOptions& options)
      : layout_(layout),
        model_(model),
        options_(options),
        blocks_(layout, model, options, &program_.trace) {
    program_.kind = options.kind;
  }
  ProgramWriter(const ProgramWriter&) = delete;

  StepProgram Take() && { return std::move(program_); }

  const StateLayout& layout() const { return layout_; }
  const LlamaModel& model() const { return model_; }
  const StepProgramOptions& options() const { return options_; }
  ProgramBlocks& blocks() { return blocks_; }

  void Add(prefetch::TraceOp op, OpPayload payload) {
    program_.trace.ops.push_back(std::move(op));
    program_.payloads.push_back(payload);
  }

  // W for the first toucher of a block in the step, RW afterwards.
  prefetch::Access Accumulate(prefetch::BlockId block) {
    const bool is_first = touched_.insert(block).second;
    return {block, is_first ? prefetch::AccessMode::kWrite : prefetch::AccessMode::kReadWrite};
  }

  uint32_t num_units() const { return static_cast<uint32_t>(layout_.units.size()); }
  const std::string& UnitName(uint32_t unit) const { return blocks_.UnitName(unit); }
  bool updates_in_backward() const {
    return options_.kind == StepKind::kInBackward || options_.kind == StepKind::kSpeculative;
  }
  bool updates_on_device(uint32_t unit) const { return unit < options_.num_device_updates; }

 private:
  const StateLayout& layout_;
  const LlamaModel& model_;
  const StepProgramOptions options_;
  StepProgram program_;
  ProgramBlocks blocks_;
  std::set<prefetch::BlockId> touched_;
};

}  // namespace strata::engine
