#include "engine/optimizer/adam.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

namespace strata::engine {
namespace {

// One tensor's state, and its gradient in either format.
struct Tensor {
  std::vector<float> master, m, v, gradient;
  std::vector<Bf16> gradient_bf16, weight;

  AdamSlices Slices(DType gradient_dtype) {
    const bool wide = gradient_dtype == DType::kF32;
    return {.master = reinterpret_cast<std::byte*>(master.data()),
            .m = reinterpret_cast<std::byte*>(m.data()),
            .v = reinterpret_cast<std::byte*>(v.data()),
            .gradient = reinterpret_cast<const std::byte*>(
                wide ? static_cast<const void*>(gradient.data()) : gradient_bf16.data()),
            .gradient_dtype = gradient_dtype,
            .weight = reinterpret_cast<std::byte*>(weight.data()),
            .num_elements = master.size()};
  }
  void SetGradient(const std::vector<float>& values) {
    gradient = values;
    gradient_bf16.clear();
    for (const float value : values) gradient_bf16.push_back(ToBf16(value));
  }
  bool operator==(const Tensor& other) const {
    const auto same = [](const auto& a, const auto& b) {
      return a.size() == b.size() &&
             (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0);
    };
    return same(master, other.master) && same(m, other.m) && same(v, other.v) &&
           same(weight, other.weight);
  }
};

Tensor RandomTensor(size_t n) {
  std::mt19937 engine(static_cast<uint32_t>(n));
  std::normal_distribution<float> normal;
  Tensor tensor;
  std::vector<float> gradient;
  for (size_t i = 0; i < n; ++i) {
    tensor.master.push_back(normal(engine));
    tensor.m.push_back(0.1f * normal(engine));
    tensor.v.push_back(0.01f * std::abs(normal(engine)));
    gradient.push_back(normal(engine));
  }
  tensor.SetGradient(gradient);
  tensor.weight.assign(n, Bf16{0x7fff});
  return tensor;
}

AdamScalars SomeScalars(AdamMode mode = AdamMode::kAdamW) {
  return MakeAdamScalars({.mode = mode}, 1e-3, 7, 0.5);
}

// The element in double, from the papers.
struct Element {
  double p, m, v;
};
Element PlainStep(Element e, double g, const AdamHyperparameters& hyper, double lr, double t) {
  if (hyper.mode == AdamMode::kAdam) {
    g += hyper.weight_decay * e.p;
  } else {
    e.p -= lr * hyper.weight_decay * e.p;
  }
  e.m = hyper.beta1 * e.m + (1 - hyper.beta1) * g;
  e.v = hyper.beta2 * e.v + (1 - hyper.beta2) * g * g;
  const double m_hat = e.m / (1 - std::pow(hyper.beta1, t));
  const double v_hat = e.v / (1 - std::pow(hyper.beta2, t));
  e.p -= lr * m_hat / (std::sqrt(v_hat) + hyper.eps);
  return e;
}

class AdamModeTest : public testing::TestWithParam<AdamMode> {};

TEST_P(AdamModeTest, AStepIsThePapersFormula) {
  const AdamHyperparameters hyper{.mode = GetParam(), .beta2 = 0.95, .weight_decay = 0.2};
  const Tensor before = RandomTensor(1003);
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    Tensor after = before;
    ThreadPool pool = ThreadPool::Create(2).value();
    AdamStep(MakeAdamScalars(hyper, 0.01, 3, 0.25), after.Slices(dtype), pool);
    for (size_t i = 0; i < before.master.size(); ++i) {
      const double g = static_cast<double>(
          dtype == DType::kF32 ? before.gradient[i] : FromBf16(before.gradient_bf16[i]));
      const Element e =
          PlainStep({before.master[i], before.m[i], before.v[i]}, 0.25 * g, hyper, 0.01, 3);
      // Each is a handful of fp32 operations.
      ASSERT_NEAR(after.m[i], e.m, 3e-7 * (std::abs(before.m[i]) + std::abs(e.m) + 0.03));
      ASSERT_NEAR(after.v[i], e.v, 3e-7 * e.v);
      ASSERT_NEAR(after.master[i], e.p, 3e-7 * (std::abs(e.p) + 0.1));
      ASSERT_EQ(after.weight[i], ToBf16(after.master[i]));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, AdamModeTest, testing::Values(AdamMode::kAdamW, AdamMode::kAdam),
                         [](const auto& tested) {
                           return tested.param == AdamMode::kAdamW ? "AdamW" : "Adam";
                         });

class GoldenTest : public testing::TestWithParam<std::string> {
 protected:
  static nlohmann::json Golden() {
    std::ifstream file(STRATA_SOURCE_DIR "/tests/golden/adamw.json");
    return nlohmann::json::parse(file);
  }
};

// The distance from what PyTorch has, in units of the tensor's norm. Both compute in fp32, in a
// different order of operations: ten steps add up to a few units of 6e-8.
double Distance(const std::vector<float>& ours, const nlohmann::json& expected) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    const double value = expected[i].get<double>();
    difference += (ours[i] - value) * (ours[i] - value);
    norm += value * value;
  }
  return std::sqrt(difference / norm);
}

TEST_P(GoldenTest, TenStepsFollowPyTorch) {
  const nlohmann::json golden = Golden();
  const nlohmann::json& run = golden.at(GetParam());
  const AdamHyperparameters hyper{
      .mode = GetParam() == "AdamW" ? AdamMode::kAdamW : AdamMode::kAdam,
      .beta1 = run.at("beta1"),
      .beta2 = run.at("beta2"),
      .eps = run.at("eps"),
      .weight_decay = run.at("weight_decay")};
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    Tensor tensor;
    tensor.master = run.at("initial").get<std::vector<float>>();
    tensor.m = tensor.v = std::vector<float>(tensor.master.size(), 0.0f);
    tensor.weight.resize(tensor.master.size());
    ThreadPool pool = ThreadPool::Create(1).value();
    for (uint64_t t = 1; t <= 10; ++t) {
      tensor.SetGradient(golden.at("gradients")[t - 1].get<std::vector<float>>());
      const double lr = run.at("lr").get<double>() * static_cast<double>(t) / 10;
      AdamStep(MakeAdamScalars(hyper, lr, t, 1), tensor.Slices(dtype), pool);
      const nlohmann::json& expected = run.at("steps")[t - 1];
      EXPECT_LT(Distance(tensor.master, expected.at("p")), 2e-7) << t;
      EXPECT_LT(Distance(tensor.m, expected.at("m")), 2e-7) << t;
      EXPECT_LT(Distance(tensor.v, expected.at("v")), 2e-7) << t;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Optimizers, GoldenTest, testing::Values("AdamW", "Adam"));

TEST(AdamTest, EveryInstructionSetAndLengthGivesTheSameBits) {
  for (const AdamMode mode : {AdamMode::kAdamW, AdamMode::kAdam}) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      for (size_t n = 0; n < 70; ++n) {
        const Tensor before = RandomTensor(n);
        Tensor expected = before;
        for (size_t i = 0; i < n; ++i) {  // element by element
          AdamSlices one = expected.Slices(dtype);
          one.master += i * 4, one.m += i * 4, one.v += i * 4;
          one.gradient += i * SizeOf(dtype), one.weight += i * 2;
          one.num_elements = 1;
          AdamStepWith("baseline", SomeScalars(mode), one);
        }
        for (const std::string_view isa : AdamInstructionSets()) {
          Tensor after = before;
          AdamStepWith(isa, SomeScalars(mode), after.Slices(dtype));
          ASSERT_TRUE(after == expected) << isa << " " << n;
        }
      }
    }
  }
}

TEST(AdamTest, ThreadsAndSlicingDoNotShowInTheBits) {
  constexpr size_t kCount = 300'001;  // several pieces, the last one odd
  const Tensor before = RandomTensor(kCount);
  Tensor expected = before;
  AdamStepWith("baseline", SomeScalars(), expected.Slices(DType::kBf16));
  for (const uint32_t num_threads : {1u, 2u, 5u}) {
    ThreadPool pool = ThreadPool::Create(num_threads).value();
    Tensor after = before;
    AdamStep(SomeScalars(), after.Slices(DType::kBf16), pool);
    EXPECT_TRUE(after == expected) << num_threads;
  }
}

TEST(AdamTest, WithoutAWeightOnlyTheMasterIsWritten) {
  Tensor with = RandomTensor(100), without = with;
  const std::vector<Bf16> untouched = without.weight;
  AdamSlices slices = without.Slices(DType::kF32);
  slices.weight = nullptr;
  ThreadPool pool = ThreadPool::Create(1).value();
  AdamStep(SomeScalars(), slices, pool);
  AdamStep(SomeScalars(), with.Slices(DType::kF32), pool);
  EXPECT_EQ(without.weight, untouched);
  EXPECT_EQ(without.master, with.master);
}

// The same master, m and v as from an fp32 gradient of the same values; the copy is fp16.
TEST(AdamTest, AnFp16GradientAndWeightAreOfTheSameStep) {
  Tensor expected = RandomTensor(1003), halves = expected;
  std::vector<F16> gradient, weight(1003);
  for (float& value : expected.gradient) {
    gradient.push_back(ToHalf(value));
    value = FromHalf(gradient.back());
  }
  ThreadPool pool = ThreadPool::Create(2).value();
  AdamStep(SomeScalars(), expected.Slices(DType::kF32), pool);
  for (const std::string_view instruction_set : AdamInstructionSets()) {
    Tensor actual = halves;
    AdamSlices slices = actual.Slices(DType::kF32);
    slices.gradient = reinterpret_cast<const std::byte*>(gradient.data());
    slices.gradient_dtype = slices.weight_dtype = DType::kF16;
    slices.weight = reinterpret_cast<std::byte*>(weight.data());
    AdamStepWith(instruction_set, SomeScalars(), slices);
    EXPECT_EQ(actual.master, expected.master);
    EXPECT_EQ(actual.m, expected.m);
    EXPECT_EQ(actual.v, expected.v);
    for (size_t i = 0; i < weight.size(); ++i) ASSERT_EQ(weight[i], ToHalf(actual.master[i]));
  }
}

TEST(AdamTest, NotANumberInAGradientStaysInItsElement) {
  Tensor tensor = RandomTensor(50);
  tensor.gradient[17] = std::numeric_limits<float>::quiet_NaN();
  ThreadPool pool = ThreadPool::Create(1).value();
  AdamStep(SomeScalars(), tensor.Slices(DType::kF32), pool);
  for (size_t i = 0; i < 50; ++i) {
    EXPECT_EQ(std::isnan(tensor.master[i]), i == 17);
    EXPECT_EQ(std::isnan(FromBf16(tensor.weight[i])), i == 17);
  }
}

TEST(ClipCoefficientTest, IsPyTorchsAndOneWithoutALimit) {
  EXPECT_DOUBLE_EQ(ClipCoefficient(4, 1), 1 / (4 + 1e-6));
  EXPECT_EQ(ClipCoefficient(0.5, 1), 1);
  EXPECT_EQ(ClipCoefficient(0, 1), 1);
  EXPECT_EQ(ClipCoefficient(1e9, 0), 1);
  EXPECT_TRUE(std::isnan(ClipCoefficient(std::numeric_limits<double>::quiet_NaN(), 1)));
}

}  // namespace
}  // namespace strata::engine
