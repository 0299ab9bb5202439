// Loss and the gradient of every tensor, against PyTorch and transformers (tests/golden).
#include <gtest/gtest.h>

#include <cmath>

#include "tests/engine/model/plain_run.h"
#include "tests/engine/model/test_kernels.h"
#include "tests/golden/golden_file.h"

namespace strata::engine {
namespace {

struct Case {
  golden::LlamaFile golden;
  LlamaConfig config;
  BatchShape batch;
  float gradient_scale;  // of a mean
};

Case Load(const std::string& name) {
  auto file = golden::ReadLlamaFile(STRATA_SOURCE_DIR "/tests/golden/" + name + ".golden");
  STRATA_CHECK(file.ok());
  auto config = ParseLlamaConfig(file->config_json, name);
  STRATA_CHECK(config.ok());
  const BatchShape batch{.micro_batch = file->batch, .seq_len = file->seq_len};
  const float scale = 1.0f / static_cast<float>(batch.num_tokens());
  return {std::move(*file), *config, batch, scale};
}

// The run after one step on the file's tokens.
struct Stepped {
  PlainRun run;
  double loss;
};
Stepped StepOn(const Case& golden_case, DType dtype, Kernels* kernels, float loss_scale = 1) {
  PlainRun run(golden_case.config, dtype, golden_case.batch, kernels);
  for (const auto& [name, tensor] : golden_case.golden.tensors) {
    run.SetWeights(name, tensor.weight);
  }
  const double loss = run.Step(golden_case.golden.tokens, loss_scale * golden_case.gradient_scale);
  return {std::move(run), loss * golden_case.gradient_scale};
}

double Norm(std::span<const float> values) {
  double sum = 0;
  for (float value : values) sum += double{value} * value;
  return std::sqrt(sum);
}

std::vector<float> Difference(std::span<const float> a, std::span<const float> b) {
  std::vector<float> difference(a.begin(), a.end());
  for (size_t i = 0; i < a.size(); ++i) difference[i] -= b[i];
  return difference;
}

double Cosine(std::span<const float> a, std::span<const float> b) {
  double dot = 0;
  for (size_t i = 0; i < a.size(); ++i) dot += double{a[i]} * b[i];
  return dot / (Norm(a) * Norm(b));
}

class LlamaGoldenTest : public ::testing::TestWithParam<std::tuple<std::string, TestKernels>> {
 protected:
  Case golden_case_ = Load(std::get<0>(GetParam()));
  std::unique_ptr<Kernels> kernels_ = Make(std::get<1>(GetParam()));
};

TEST_P(LlamaGoldenTest, EveryTensorOfTheFileIsATensorOfTheModel) {
  PlainRun run(golden_case_.config, DType::kF32, golden_case_.batch, kernels_.get());
  size_t num_tensors = 0;
  for (const UnitSpec& unit : run.units()) {
    for (const TensorSpec& tensor : unit.tensors) {
      ASSERT_TRUE(golden_case_.golden.tensors.contains(tensor.name)) << tensor.name;
      EXPECT_EQ(golden_case_.golden.tensors[tensor.name].shape, tensor.shape) << tensor.name;
      ++num_tensors;
    }
  }
  EXPECT_EQ(num_tensors, golden_case_.golden.tensors.size());
}

// Both sides compute in fp32, whose rounding is 6e-8 per operation; some hundred operations deep
// and partly cancelling, they may differ by about 1e-6 of a tensor's norm.
TEST_P(LlamaGoldenTest, Fp32LossAndEveryGradientAreThoseOfPyTorch) {
  Stepped stepped = StepOn(golden_case_, DType::kF32, kernels_.get());
  EXPECT_NEAR(stepped.loss, golden_case_.golden.loss, 1e-6 * golden_case_.golden.loss);
  for (const auto& [name, tensor] : golden_case_.golden.tensors) {
    const double norm = Norm(tensor.gradient);
    ASSERT_GT(norm, 0) << name;
    const std::vector<float> difference = Difference(stepped.run.Gradient(name), tensor.gradient);
    EXPECT_LE(Norm(difference), 1e-5 * norm) << name;
    for (float element : difference) ASSERT_LE(std::abs(element), 1e-5 * norm) << name;
  }
}

// bf16 keeps 8 bits: a value is off by up to 0.2 %. Over two layers of about ten roundings each
// that adds up, at random, to about 1 % of the activations, so a loss of 5 moves by some hundredths
// and a gradient turns by a few degrees at most.
TEST_P(LlamaGoldenTest, Bf16LossAndGradientsAreCloseToFp32) {
  Stepped stepped = StepOn(golden_case_, DType::kBf16, kernels_.get());
  EXPECT_NEAR(stepped.loss, golden_case_.golden.loss, 0.02 * golden_case_.golden.loss);
  for (const auto& [name, tensor] : golden_case_.golden.tensors) {
    EXPECT_GT(Cosine(stepped.run.Gradient(name), tensor.gradient), 0.99) << name;
  }
}

// fp16 keeps 11 bits, eight times as fine. Gradients are of the loss times 1024, as with a loss
// scale: unscaled, some of their intermediates would be too small for it.
TEST_P(LlamaGoldenTest, Fp16LossAndScaledGradientsAreCloseToFp32) {
  Stepped stepped = StepOn(golden_case_, DType::kF16, kernels_.get(), 1024);
  EXPECT_NEAR(stepped.loss, golden_case_.golden.loss, 0.0025 * golden_case_.golden.loss);
  for (const auto& [name, tensor] : golden_case_.golden.tensors) {
    EXPECT_GT(Cosine(stepped.run.Gradient(name), tensor.gradient), 0.9998) << name;
    EXPECT_NEAR(Norm(stepped.run.Gradient(name)), 1024 * Norm(tensor.gradient),
                0.01 * 1024 * Norm(tensor.gradient))
        << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, LlamaGoldenTest,
                         ::testing::Combine(::testing::Values("llama_mha_untied", "llama_gqa_tied",
                                                              "llama_gqa_llama3_rope"),
                                            ::testing::ValuesIn(kAllTestKernels)),
                         [](const auto& test) {
                           return std::get<0>(test.param) + "_" +
                                  std::string(Name(std::get<1>(test.param)));
                         });

}  // namespace
}  // namespace strata::engine
