#include "engine/model/llama.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/engine/model/plain_run.h"
#include "tests/engine/model/test_kernels.h"

namespace strata::engine {
namespace {

using ::testing::Each;
using Buffer = PlainRun::Buffer;

LlamaConfig SmallConfig() {
  return {.vocab_size = 37,
          .hidden_size = 20,
          .intermediate_size = 26,
          .num_hidden_layers = 1,
          .num_attention_heads = 4,
          .num_key_value_heads = 2,
          .head_dim = 6,
          .rope_theta = 50};
}

constexpr size_t kAttentionUnit = 1, kMlpUnit = 2;
constexpr BatchShape kBatch{.micro_batch = 2, .seq_len = 7};

double Dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * b[i];
  return sum;
}

std::vector<float> Moved(std::span<const float> from, std::span<const float> direction,
                         float step) {
  std::vector<float> moved(from.begin(), from.end());
  for (size_t i = 0; i < moved.size(); ++i) moved[i] += step * direction[i];
  return moved;
}

void ExpectNear(std::span<const float> actual, std::span<const float> expected, double tolerance,
                const std::string& what) {
  const double norm = std::sqrt(Dot(expected, expected));
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], tolerance * norm) << what << " element " << i;
  }
}

void ExpectSameGradients(const PlainRun& actual, const PlainRun& expected, double tolerance) {
  for (const UnitSpec& unit : expected.units()) {
    for (const TensorSpec& tensor : unit.tensors) {
      ExpectNear(actual.Gradient(tensor.name), expected.Gradient(tensor.name), tolerance,
                 tensor.name);
    }
  }
}

class LlamaTest : public ::testing::TestWithParam<TestKernels> {
 protected:
  PlainRun MakeRun(const LlamaConfig& config, DType dtype, const BatchShape& batch) {
    PlainRun run(config, dtype, batch, kernels_.get());
    run.RandomizeWeights(7);
    return run;
  }

  std::unique_ptr<Kernels> kernels_ = Make(GetParam());
};

// The derivative of sum(c * y) along a random direction, by central differences, against the
// backward's. A step of 0.01 leaves 1e-4 of the third derivative and 1e-5 of fp32 rounding.
class UnitGradientTest : public LlamaTest {
 protected:
  static constexpr float kStep = 0.01f;

  double Objective(PlainRun& run, size_t unit, std::span<const float> x) {
    Buffer bytes = FromFloats(x, DType::kF32);
    return Dot(ToFloats(run.Forward(unit, bytes), DType::kF32), dy_);
  }
  // `at(step)` is the objective `step` along the direction.
  template <typename At>
  void ExpectDerivative(At&& at, double derivative, const std::string& what) {
    EXPECT_NEAR((at(kStep) - at(-kStep)) / (2 * kStep), derivative,
                2e-3 * std::abs(derivative) + 2e-3)
        << what;
  }
  // Every weight of a unit, whose gradients the run has; `objective()` is asked with each moved.
  template <typename Objective>
  void CheckWeights(PlainRun& run, size_t unit, Objective&& objective) {
    for (const TensorSpec& tensor : run.units()[unit].tensors) {
      const std::vector<float> weights = run.Weights(tensor.name);
      const std::vector<float> along = RandomFloats(weights.size(), 4);
      auto at = [&](float step) {
        run.SetWeights(tensor.name, Moved(weights, along, step));
        return objective();
      };
      ExpectDerivative(at, Dot(run.Gradient(tensor.name), along), tensor.name);
      run.SetWeights(tensor.name, weights);
    }
  }
  void CheckUnit(size_t unit);

  std::vector<float> x_ = RandomFloats(kBatch.num_tokens() * SmallConfig().hidden_size, 1);
  std::vector<float> dy_ = RandomFloats(kBatch.num_tokens() * SmallConfig().hidden_size, 2);
};

void UnitGradientTest::CheckUnit(size_t unit) {
  PlainRun run = MakeRun(SmallConfig(), DType::kF32, kBatch);
  Buffer x = FromFloats(x_, DType::kF32);
  Buffer d = FromFloats(dy_, DType::kF32);
  run.Backward(unit, x, d);
  const std::vector<float> along_x = RandomFloats(x_.size(), 3);
  ExpectDerivative([&](float step) { return Objective(run, unit, Moved(x_, along_x, step)); },
                   Dot(ToFloats(d, DType::kF32), along_x), "x");
  CheckWeights(run, unit, [&] { return Objective(run, unit, x_); });
}

TEST_P(UnitGradientTest, AttentionBackwardIsTheDerivativeOfItsForward) {
  CheckUnit(kAttentionUnit);
}

TEST_P(UnitGradientTest, MlpBackwardIsTheDerivativeOfItsForward) { CheckUnit(kMlpUnit); }

TEST_P(UnitGradientTest, HeadGradientsAreTheDerivativeOfItsLoss) {
  PlainRun run = MakeRun(SmallConfig(), DType::kF32, kBatch);
  std::vector<int32_t> targets(kBatch.num_tokens(), 5);
  targets[3] = -1;  // not counted
  auto loss_at = [&](std::span<const float> x) {
    Buffer bytes = FromFloats(x, DType::kF32);
    return run.Head(bytes, targets, 0, nullptr);
  };
  Buffer x = FromFloats(x_, DType::kF32);
  Buffer d;
  EXPECT_NEAR(run.Head(x, targets, 1, &d), loss_at(x_), 1e-9);
  const std::vector<float> along_x = RandomFloats(x_.size(), 3);
  ExpectDerivative([&](float step) { return loss_at(Moved(x_, along_x, step)); },
                   Dot(ToFloats(d, DType::kF32), along_x), "x");
  CheckWeights(run, run.units().size() - 1, [&] { return loss_at(x_); });
}

TEST_P(LlamaTest, AnUncountedTargetHasNoLossAndNoGradient) {
  PlainRun run = MakeRun(SmallConfig(), DType::kF32, kBatch);
  Buffer x = FromFloats(RandomFloats(kBatch.num_tokens() * 20, 1), DType::kF32);
  Buffer d;
  EXPECT_EQ(run.Head(x, std::vector<int32_t>(kBatch.num_tokens(), -1), 1, &d), 0);
  EXPECT_THAT(ToFloats(d, DType::kF32), Each(0.0f));
  EXPECT_THAT(run.Gradient("lm_head.weight"), Each(0.0f));
}

// Sums of fp32 products in another order: a few roundings of 6e-8.
TEST_P(LlamaTest, MicroBatchesAddUpToTheLargeBatch) {
  for (bool tied : {false, true}) {
    LlamaConfig config = SmallConfig();
    config.tie_word_embeddings = tied;
    const std::vector<int32_t> tokens = RandomTokens(kBatch, config.vocab_size, 11);
    PlainRun large = MakeRun(config, DType::kF32, kBatch);
    PlainRun small = MakeRun(config, DType::kF32, {.micro_batch = 1, .seq_len = kBatch.seq_len});
    const std::span<const int32_t> all(tokens);
    const double large_loss = large.Step(all, 0.5f);
    const size_t half = tokens.size() / 2;
    EXPECT_NEAR(small.Step(all.first(half), 0.5f) + small.Step(all.subspan(half), 0.5f), large_loss,
                1e-5);
    ExpectSameGradients(small, large, 2e-6);
  }
}

TEST_P(LlamaTest, WhatMemoryHeldBeforeDoesNotMatter) {
  for (DType dtype : kFormats) {
    const std::vector<int32_t> tokens = RandomTokens(kBatch, SmallConfig().vocab_size, 11);
    PlainRun clean = MakeRun(SmallConfig(), dtype, kBatch);
    clean.PoisonWith(0);
    PlainRun poisoned = MakeRun(SmallConfig(), dtype, kBatch);
    poisoned.PoisonWith(0xff);
    EXPECT_EQ(clean.Step(tokens, 0.1f), poisoned.Step(tokens, 0.1f));
    ExpectSameGradients(poisoned, clean, 0);
    EXPECT_FALSE(std::isnan(poisoned.Loss(tokens)));
  }
}

// Of a batch of more than one chunk of MLP rows, too.
TEST_P(LlamaTest, KeptIntermediatesGiveTheBitsOfRecomputedOnes) {
  for (DType dtype : kFormats) {
    for (uint64_t micro_batch : {2u, 300u}) {
      const BatchShape batch{.micro_batch = micro_batch, .seq_len = 7};
      const std::vector<int32_t> tokens = RandomTokens(batch, SmallConfig().vocab_size, 11);
      PlainRun recomputing = MakeRun(SmallConfig(), dtype, batch);
      PlainRun keeping = MakeRun(SmallConfig(), dtype, batch);
      keeping.KeepIntermediates();
      for (int step = 0; step < 2; ++step) {
        EXPECT_EQ(keeping.Step(tokens, 0.1f), recomputing.Step(tokens, 0.1f));
      }
      ExpectSameGradients(keeping, recomputing, 0);
      for (UnitKind kind : {UnitKind::kAttention, UnitKind::kMlp}) {
        EXPECT_LE(keeping.model().WorkspaceBytes(kind, Pass::kBackward, Intermediates::kKeep),
                  recomputing.model().WorkspaceBytes(kind, Pass::kBackward));
      }
    }
  }
}

TEST_P(LlamaTest, TheLossAloneIsTheLossOfTheStep) {
  for (DType dtype : kFormats) {
    const std::vector<int32_t> tokens = RandomTokens(kBatch, SmallConfig().vocab_size, 11);
    PlainRun run = MakeRun(SmallConfig(), dtype, kBatch);
    EXPECT_EQ(run.Loss(tokens), run.Step(tokens, 0.1f));
  }
}

// 300 sequences of 7 tokens are more than one chunk of MLP rows.
TEST_P(LlamaTest, ABatchLargerThanAChunkOfRowsGivesWhatItsSequencesGive) {
  const BatchShape large_shape{.micro_batch = 300, .seq_len = 7};
  PlainRun large = MakeRun(SmallConfig(), DType::kF32, large_shape);
  PlainRun small = MakeRun(SmallConfig(), DType::kF32, {.micro_batch = 100, .seq_len = 7});
  Buffer x = FromFloats(RandomFloats(large_shape.num_tokens() * 20, 1), DType::kF32);
  Buffer d = FromFloats(RandomFloats(large_shape.num_tokens() * 20, 2), DType::kF32);
  const Buffer y = large.Forward(kMlpUnit, x);
  const Buffer dy = d;
  large.Backward(kMlpUnit, x, d);
  const size_t third = x.size() / 3;
  for (size_t begin = 0; begin < x.size(); begin += third) {
    auto part = [&](const Buffer& all) {
      return Buffer(all.begin() + static_cast<ptrdiff_t>(begin),
                    all.begin() + static_cast<ptrdiff_t>(begin + third));
    };
    Buffer part_x = part(x), part_d = part(dy);
    ExpectNear(ToFloats(small.Forward(kMlpUnit, part_x), DType::kF32),
               ToFloats(part(y), DType::kF32), 1e-6, "y");
    small.Backward(kMlpUnit, part_x, part_d);
    ExpectNear(ToFloats(part_d, DType::kF32), ToFloats(part(d), DType::kF32), 1e-6, "d");
  }
  ExpectSameGradients(small, large, 2e-6);
}

// With this vocabulary a chunk has its least number of rows, 128, so 150 rows are two chunks.
TEST_P(LlamaTest, ALargeVocabularyGoesThroughTheHeadInChunks) {
  LlamaConfig config = SmallConfig();
  config.vocab_size = 40000;
  config.hidden_size = 4;
  const BatchShape large_shape{.micro_batch = 2, .seq_len = 75};
  PlainRun large = MakeRun(config, DType::kF32, large_shape);
  PlainRun small = MakeRun(config, DType::kF32, {.micro_batch = 1, .seq_len = 75});
  EXPECT_LT(large.model().WorkspaceBytes(UnitKind::kHead, Pass::kBackward), 150 * 40000 * 4u);
  const std::vector<float> x = RandomFloats(150 * 4, 1);
  const std::vector<int32_t> targets = RandomTokens({.micro_batch = 150, .seq_len = 0}, 40000, 3);
  Buffer all = FromFloats(x, DType::kF32);
  Buffer first = FromFloats(std::span(x).first(300), DType::kF32);
  Buffer second = FromFloats(std::span(x).subspan(300), DType::kF32);
  Buffer d, first_d, second_d;
  const std::span<const int32_t> labels(targets);
  const double loss = large.Head(all, labels, 1, &d);
  EXPECT_NEAR(small.Head(first, labels.first(75), 1, &first_d) +
                  small.Head(second, labels.subspan(75), 1, &second_d),
              loss, 1e-6 * loss);
  first_d.insert(first_d.end(), second_d.begin(), second_d.end());
  ExpectNear(ToFloats(first_d, DType::kF32), ToFloats(d, DType::kF32), 1e-6, "d");
  ExpectSameGradients(small, large, 2e-6);
}

// Large enough for several tiles of every operation.
TEST(LlamaThreadsTest, NeitherThreadsNorTheInstructionSetChangeABit) {
  LlamaConfig config = SmallConfig();
  config.vocab_size = 301;
  config.hidden_size = 96;
  config.intermediate_size = 200;
  config.head_dim = 24;
  const BatchShape batch{.micro_batch = 3, .seq_len = 150};
  const std::vector<int32_t> tokens = RandomTokens(batch, config.vocab_size, 11);
  for (DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
    const std::unique_ptr<Kernels> alone = MakeCpuKernels(1).value();
    PlainRun expected(config, dtype, batch, alone.get());
    expected.RandomizeWeights(7);
    const double loss = expected.Step(tokens, 0.01f);
    auto expect_same = [&](uint32_t num_threads, std::string_view instruction_set) {
      SCOPED_TRACE(testing::Message() << num_threads << " threads, " << instruction_set);
      const std::unique_ptr<Kernels> kernels = MakeCpuKernels(num_threads, instruction_set).value();
      PlainRun run(config, dtype, batch, kernels.get());
      run.RandomizeWeights(7);
      EXPECT_EQ(run.Step(tokens, 0.01f), loss);
      ExpectSameGradients(run, expected, 0);
    };
    for (uint32_t num_threads : {2u, 3u}) expect_same(num_threads, InstructionSets().back());
    for (std::string_view instruction_set : InstructionSets()) expect_same(1, instruction_set);
  }
}

INSTANTIATE_TEST_SUITE_P(All, LlamaTest, ::testing::ValuesIn(kAllTestKernels),
                         [](const auto& test) { return std::string(Name(test.param)); });
INSTANTIATE_TEST_SUITE_P(All, UnitGradientTest, ::testing::ValuesIn(kAllTestKernels),
                         [](const auto& test) { return std::string(Name(test.param)); });

// Llama 2 7B, whose numbers are known.
TEST(LlamaSizesTest, FlopsAreSixPerWeightAndTokenPlusRecomputationAndAttention) {
  const LlamaConfig config{.vocab_size = 32000,
                           .hidden_size = 4096,
                           .intermediate_size = 11008,
                           .num_hidden_layers = 32,
                           .num_attention_heads = 32,
                           .num_key_value_heads = 32,
                           .head_dim = 128};
  auto kernels = Make(kAllTestKernels[0]);
  const LlamaModel model(config, DType::kBf16, {.micro_batch = 2, .seq_len = 1024}, kernels.get());
  const double tokens = 2048, mlp_weights = 3.0 * 4096 * 11008, head_weights = 4096.0 * 32000;
  EXPECT_EQ(model.Flops(UnitKind::kMlp, Pass::kForward), 2 * tokens * mlp_weights);
  EXPECT_EQ(model.Flops(UnitKind::kMlp, Pass::kBackward),
            4 * tokens * mlp_weights + 2 * tokens * mlp_weights * 2 / 3);
  EXPECT_EQ(model.Flops(UnitKind::kHead, Pass::kBackward), 6 * tokens * head_weights);
  EXPECT_EQ(model.Flops(UnitKind::kEmbedding, Pass::kForward), 0);
  // What is kept is not computed again.
  EXPECT_EQ(model.Flops(UnitKind::kMlp, Pass::kBackward, Intermediates::kKeep),
            2 * model.Flops(UnitKind::kMlp, Pass::kForward));
  EXPECT_EQ(model.KeptBytes(UnitKind::kMlp), 2048u * 2 * 11008 * 2);
  EXPECT_EQ(model.KeptBytes(UnitKind::kAttention), 2048u * (4 * 4096 * 2 + 32 * 4));
  EXPECT_EQ(model.KeptBytes(UnitKind::kHead), 0u);
  // Two products over the half of 1024 x 1024 scores, of 32 heads of 128, for 2 sequences.
  const double scores = 2 * (2 * 1024.0 * 1025 / 2) * 4096 * 2;
  const double projections = 2 * tokens * 4 * 4096 * 4096;
  EXPECT_EQ(model.Flops(UnitKind::kAttention, Pass::kForward), projections + scores);
  EXPECT_EQ(model.Flops(UnitKind::kAttention, Pass::kBackward),
            projections * (2 + 0.75) + scores * (1 + 2.5));
}

TEST(LlamaSizesTest, WorkspacesStopGrowingWithTheRowsThatKernelsTakeAtOnce) {
  auto kernels = Make(kAllTestKernels[0]);
  auto bytes = [&](UnitKind kind, uint64_t tokens) {
    return LlamaModel(SmallConfig(), DType::kBf16, {.micro_batch = 1, .seq_len = tokens},
                      kernels.get())
        .WorkspaceBytes(kind, Pass::kBackward);
  };
  const RowsAtOnce at_once = kernels->rows_at_once();  // of the references: few
  for (const auto& [kind, rows] : {std::pair(UnitKind::kMlp, at_once.rows),
                                   std::pair(UnitKind::kHead, at_once.min_logits_rows)}) {
    EXPECT_LT(bytes(kind, 1), bytes(kind, rows));
    EXPECT_EQ(bytes(kind, rows), bytes(kind, 8 * rows));
  }
}

}  // namespace
}  // namespace strata::engine
