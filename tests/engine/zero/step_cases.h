// Step programs of a tiny model, in all the ways that there are to make one.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/zero/state_layout.h"
#include "engine/zero/step_program.h"

namespace strata::engine {

LlamaConfig TinyLlama(bool tied = false);

struct Case {
  DType precision = DType::kBf16;
  StateFormat format = StateFormat::kSplit;
  uint32_t world_size = 1;
  StepProgramOptions options;
  bool tied = false;
  uint64_t part_elements = kUncut;
  uint64_t vocab_size = 300;
};

struct Built {
  std::unique_ptr<Kernels> kernels;
  std::unique_ptr<LlamaModel> model;
  StateLayout layout;
  StepProgram program;
};

Built Build(const Case& c);

// Embedding and head in 3 parts, the mlp in 3.
inline constexpr uint64_t kPartElements = 64 * 128;

// Formats, numbers of ranks and micro-batches, kinds, schedules; whole and in parts.
std::vector<Case> AllCases();

}  // namespace strata::engine
