// Large sublayers in parts: against the model uncut, and that the size of tiles shows in no bit.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "tests/engine/model/plain_run.h"
#include "tests/engine/model/test_kernels.h"

namespace strata::engine {
namespace {

// In parts of 3840 elements: the vocabulary in 2, the mlp in 4, the last of each smaller.
LlamaConfig WideConfig(bool tied) {
  return {.vocab_size = 301,
          .hidden_size = 20,
          .intermediate_size = 230,
          .num_hidden_layers = 2,
          .num_attention_heads = 4,
          .num_key_value_heads = 2,
          .head_dim = 6,
          .rope_theta = 50,
          .tie_word_embeddings = tied};
}
constexpr uint64_t kPartElements = 3840;

// More than one chunk of rows in the head: 128 at least, here 6990.
constexpr BatchShape kBatch{.micro_batch = 3, .seq_len = 9};

struct Outcome {
  double loss = 0;
  std::map<std::string, std::vector<float>> gradients;
};

class TilingTest : public ::testing::TestWithParam<TestKernels> {
 protected:
  Outcome Run(bool tied, DType dtype, const PlainRun::Tiling& tiling, bool keeps,
              const BatchShape& batch = kBatch) {
    const LlamaConfig config = WideConfig(tied);
    PlainRun run(config, dtype, batch, kernels_.get(), tiling);
    run.RandomizeWeights(7);
    if (keeps) run.KeepIntermediates();
    const std::vector<int32_t> tokens = RandomTokens(batch, config.vocab_size, 11);
    Outcome outcome;
    for (int step = 0; step < 2; ++step) outcome.loss += run.Step(tokens, 0.1f);
    for (const UnitSpec& unit : run.units())
      for (const TensorSpec& tensor : unit.tensors)
        outcome.gradients[tensor.name] = run.Gradient(tensor.name);
    return outcome;
  }
  std::unique_ptr<Kernels> kernels_ = Make(GetParam());
};

// In fp32, where only the order of sums differs.
TEST_P(TilingTest, PartsAddUpToTheWhole) {
  for (bool tied : {false, true}) {
    const Outcome whole = Run(tied, DType::kF32, {}, false);
    const Outcome parts = Run(tied, DType::kF32, {kPartElements, 1}, false);
    EXPECT_NEAR(parts.loss / whole.loss, 1, 1e-6);
    for (const auto& [name, expected] : whole.gradients) {
      const std::vector<float>& actual = parts.gradients.at(name);
      ASSERT_EQ(actual.size(), expected.size()) << name;
      double norm = 0;
      for (float value : expected) norm += double{value} * value;
      for (size_t i = 0; i < expected.size(); ++i)
        ASSERT_NEAR(actual[i], expected[i], 2e-6 * std::sqrt(norm)) << name << " element " << i;
    }
  }
}

TEST_P(TilingTest, TheSizeOfTilesShowsInNoBit) {
  for (bool tied : {false, true}) {
    for (DType dtype : kFormats) {
      for (bool keeps : {false, true}) {
        const Outcome whole = Run(tied, dtype, {kPartElements, 4}, keeps);
        for (uint32_t parts_per_op : {1u, 2u, 3u}) {
          const Outcome tiles = Run(tied, dtype, {kPartElements, parts_per_op}, keeps);
          EXPECT_EQ(tiles.loss, whole.loss);
          for (const auto& [name, expected] : whole.gradients)
            EXPECT_EQ(tiles.gradients.at(name), expected)
                << name << " with " << parts_per_op << " parts in an op";
        }
      }
    }
  }
}

// 300 sequences of 9 are more than one chunk of rows in the mlp.
TEST_P(TilingTest, TheSizeOfTilesShowsInNoBitOfLargeBatchesEither) {
  const BatchShape batch{.micro_batch = 300, .seq_len = 9};
  const Outcome whole = Run(false, DType::kF32, {kPartElements, 4}, false, batch);
  const Outcome tiles = Run(false, DType::kF32, {kPartElements, 1}, false, batch);
  EXPECT_EQ(tiles.loss, whole.loss);
  EXPECT_EQ(tiles.gradients, whole.gradients);
}

INSTANTIATE_TEST_SUITE_P(All, TilingTest, ::testing::ValuesIn(kAllTestKernels),
                         [](const auto& test) { return std::string(Name(test.param)); });

// What tiles are for.
TEST(TilingSizesTest, WorkspacesAreAsLargeAsATileNotAsTheModelIsWide) {
  const std::unique_ptr<Kernels> kernels = Make(kAllTestKernels[0]);
  LlamaConfig config = WideConfig(false);
  auto bytes = [&](UnitKind kind, Pass pass) {
    return LlamaModel(config, DType::kBf16, kBatch, kernels.get(), kPartElements)
        .WorkspaceBytes(kind, pass, Intermediates::kRecompute, {0, 1});
  };
  const uint64_t mlp = bytes(UnitKind::kMlp, Pass::kBackward);
  const uint64_t head = bytes(UnitKind::kHead, Pass::kBackward);
  config.intermediate_size *= 16;
  config.vocab_size *= 16;
  EXPECT_EQ(bytes(UnitKind::kMlp, Pass::kBackward), mlp);
  EXPECT_EQ(bytes(UnitKind::kHead, Pass::kBackward), head);
}

// Tiles of the mlp compute what the whole does; the head's compute their logits twice.
TEST(TilingSizesTest, FlopsOfTilesAddUp) {
  const std::unique_ptr<Kernels> kernels = Make(kAllTestKernels[0]);
  const LlamaModel model(WideConfig(false), DType::kBf16, kBatch, kernels.get(), kPartElements);
  auto sum = [&](UnitKind kind, Pass pass) {
    double flops = 0;
    for (uint32_t part = 0; part < model.NumParts(kind); ++part)
      flops += model.Flops(kind, pass, Intermediates::kRecompute, {part, 1});
    return flops;
  };
  EXPECT_EQ(sum(UnitKind::kMlp, Pass::kForward), model.Flops(UnitKind::kMlp, Pass::kForward));
  EXPECT_EQ(sum(UnitKind::kMlp, Pass::kBackward), model.Flops(UnitKind::kMlp, Pass::kBackward));
  EXPECT_EQ(sum(UnitKind::kHead, Pass::kForward) + sum(UnitKind::kHead, Pass::kBackward),
            model.Flops(UnitKind::kHead, Pass::kBackward) * 4 / 3);
}

}  // namespace
}  // namespace strata::engine
