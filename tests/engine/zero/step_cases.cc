#include "tests/engine/zero/step_cases.h"

#include <utility>

#include "engine/kernels/cpu_kernels.h"

namespace strata::engine {

LlamaConfig TinyLlama(bool tied) {
  return {.vocab_size = 300,
          .hidden_size = 64,
          .intermediate_size = 160,
          .num_hidden_layers = 2,
          .num_attention_heads = 4,
          .num_key_value_heads = 2,
          .head_dim = 16,
          .rope_scaling = {},
          .tie_word_embeddings = tied};
}

Built Build(const Case& c) {
  Built built;
  LlamaConfig config = TinyLlama(c.tied);
  config.vocab_size = c.vocab_size;
  built.kernels = MakeCpuKernels(1).value();
  built.model =
      std::make_unique<LlamaModel>(config, c.precision, BatchShape{.micro_batch = 2, .seq_len = 32},
                                   built.kernels.get(), c.part_elements);
  built.layout =
      MakeStateLayout(UnitsOf(config, c.part_elements),
                      {.precision = c.precision, .format = c.format, .world_size = c.world_size});
  built.program = MakeStepProgram(built.layout, *built.model, c.options);
  return built;
}

namespace {

// The same in parts: an op takes one, two or all of them.
void AddTiled(std::vector<Case>& cases) {
  const size_t whole = cases.size();
  for (size_t i = 0; i < whole; ++i) {
    cases.push_back(cases[i]);
    cases.back().part_elements = kPartElements;
    cases.back().options.parts_per_op = i % 3 == 2 ? kWholeSublayers : 1 + i % 3;
  }
}

}  // namespace

std::vector<Case> AllCases() {
  std::vector<Case> cases;
  for (auto [precision, format] :
       {std::pair(DType::kBf16, StateFormat::kFp32), std::pair(DType::kBf16, StateFormat::kSplit),
        std::pair(DType::kBf16, StateFormat::kInt8), std::pair(DType::kF32, StateFormat::kFp32)}) {
    for (uint32_t world : {1u, 4u}) {
      for (uint32_t micro : {1u, 3u}) {
        for (int bits = 0; bits < 8; ++bits) {
          StepProgramOptions options{
              .num_micro_batches = micro,
              .kind = bits & 1 ? StepKind::kAfterNorm : StepKind::kInBackward,
              .num_device_updates = bits & 2 ? 1000u : 0u};
          cases.push_back({precision, format, world, options, (bits & 4) != 0});
          cases.back().options.num_keeping_units = (bits & 3) == 0 ? 4 : bits & 1;
          if (micro == 1) continue;
          cases.back().options.schedule = Schedule::kHorizontal;
          cases.push_back({precision, format, world, options, (bits & 4) != 0});
        }
      }
    }
  }
  AddTiled(cases);
  return cases;
}

}  // namespace strata::engine
