// An update on the device has the bits of the same update on the host, in every format: the host's
// is held to PyTorch's (adam_test.cc).
#include "engine/optimizer/device_adam.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/or_die.h"
#include "tests/tiering/device_rig.h"

namespace strata::engine {
namespace {

using Bytes = std::vector<std::byte>;

struct Case {
  StateFormat format = StateFormat::kFp32;
  DType gradient = DType::kBf16;
  std::optional<DType> weight = DType::kBf16;  // none: the master is the weight
  AdamMode mode = AdamMode::kAdamW;
  uint64_t num_elements = 0;
  std::optional<double> coefficient = {};
  uint64_t skipped = 0;  // of them, at the beginning: then packs of elements are not aligned

  std::string ToString() const {
    return fmt::format("{} gradients {} weights {} mode {} n={} - {} coefficient {}",
                       StateFormatName(format), DTypeName(gradient),
                       weight ? DTypeName(*weight) : "none", static_cast<int>(mode), num_elements,
                       skipped, coefficient ? fmt::format("{}", *coefficient) : "none");
  }
};

// The operands of an update, one after the other in one range of memory.
struct State {
  Bytes bytes;
  size_t master = 0, m = 0, v = 0, gradient = 0, weight = 0, coefficient = 0;
};

size_t Append(State& state, const Bytes& more) {
  const size_t at = (state.bytes.size() + 255) / 256 * 256;
  state.bytes.resize(at + more.size());
  std::memcpy(state.bytes.data() + at, more.data(), more.size());
  return at;
}

// Numbers of many sizes, some of them 0; those that are rounded are bf16 numbers.
Bytes Floats(std::mt19937& random, uint64_t n, bool positive, std::optional<DType> rounded = {}) {
  std::normal_distribution<float> normal;
  Bytes bytes;
  for (uint64_t i = 0; i < n; ++i) {
    float x = random() % 16 == 0 ? 0 : normal(random) * std::exp(2 * normal(random) - 4);
    if (positive) x = std::abs(x) * 0.01f;
    uint32_t word = 0;
    size_t size = 2;
    if (!rounded || *rounded == DType::kF32) {
      std::memcpy(&word, &x, size = 4);
    } else {
      word = *rounded == DType::kBf16 ? static_cast<uint16_t>(ToBf16(x))
                                      : static_cast<uint16_t>(ToHalf(x));
    }
    const auto* at = reinterpret_cast<const std::byte*>(&word);
    bytes.insert(bytes.end(), at, at + size);
  }
  return bytes;
}
Bytes Noise(std::mt19937& random, uint64_t n) {
  Bytes bytes(n);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}
// In int8: codes of any kind, then scales of numbers that are not huge.
Bytes Codes(std::mt19937& random, uint64_t n) {
  Bytes bytes = Noise(random, n);
  for (uint64_t scale = 0; scale < (n + kScaledElements - 1) / kScaledElements; ++scale)
    bytes.push_back(static_cast<std::byte>(90 + random() % 30));
  return bytes;
}

State MakeState(const Case& c) {
  std::mt19937 random(static_cast<uint32_t>(c.num_elements));
  const uint64_t n = c.num_elements;
  const bool is_int8 = c.format == StateFormat::kInt8;
  State state;
  state.master = Append(
      state, c.format == StateFormat::kFp32 ? Floats(random, n, false) : Noise(random, 2 * n));
  state.m = Append(state, is_int8 ? Codes(random, n) : Floats(random, n, false));
  state.v = Append(state, is_int8 ? Codes(random, n) : Floats(random, n, true));
  state.gradient = Append(state, Floats(random, n, false, c.gradient));
  if (c.weight) state.weight = Append(state, Floats(random, n, false, *c.weight));
  Bytes coefficient(sizeof(double));
  if (c.coefficient) std::memcpy(coefficient.data(), &*c.coefficient, sizeof(double));
  state.coefficient = Append(state, coefficient);
  Append(state, Bytes(256, std::byte{0xa5}));  // what no update may touch
  return state;
}

AdamSlices SlicesIn(const Case& c, const State& state, std::byte* memory) {
  AdamSlices slices{.format = c.format,
                    .master = memory + state.master,
                    .m = memory + state.m,
                    .v = memory + state.v,
                    .gradient = memory + state.gradient,
                    .gradient_dtype = c.gradient,
                    .weight = c.weight ? memory + state.weight : nullptr,
                    .weight_dtype = c.weight.value_or(DType::kBf16),
                    .dither = 12345,
                    .num_elements = c.num_elements};
  if (c.format == StateFormat::kInt8) {
    slices.m_scales = reinterpret_cast<uint8_t*>(slices.m) + c.num_elements;
    slices.v_scales = reinterpret_cast<uint8_t*>(slices.v) + c.num_elements;
  }
  const size_t moment_bytes = c.format == StateFormat::kInt8 ? 1 : 4;
  slices.master += c.skipped * (c.format == StateFormat::kFp32 ? 4 : 2);
  slices.m += c.skipped * moment_bytes;
  slices.v += c.skipped * moment_bytes;
  slices.gradient += c.skipped * SizeOf(c.gradient);
  if (c.weight) slices.weight += c.skipped * 2;
  slices.num_elements -= c.skipped;
  return slices;
}

AdamScalars Scalars(const Case& c) {
  return MakeAdamScalars({.mode = c.mode, .weight_decay = 0.1}, 3e-3, 7, 0.25);
}

// What the host makes of it.
Bytes OnHost(const Case& c, State state) {
  const AdamSlices slices = SlicesIn(c, state, state.bytes.data());
  AdamScalars scalars = Scalars(c);
  if (c.coefficient && std::isnan(*c.coefficient)) {
    KeepWeights(slices);
    return state.bytes;
  }
  if (c.coefficient) scalars.gradient_scale = static_cast<float>(*c.coefficient);
  AdamStepWith(AdamInstructionSets().front(), scalars, slices);
  return state.bytes;
}

class DeviceAdamTest : public testing::Test {
 protected:
  static constexpr uint64_t kBudgetBytes = 1 << 20;

  void SetUp() override {
    if (const std::string missing = tiering::MissingForTestDevice(); !missing.empty())
      GTEST_SKIP() << missing;
    device_ = OrDie(tiering::CreateTestDevice(kBudgetBytes));
    stream_ = device_->CreateStream("test");
    const bool is_cpu = std::string(tiering::kTestDeviceName) == "cpu";
    adam_ = OrDie(is_cpu ? MakeCpuDeviceAdam(2) : MakeCudaAdam());
  }

  Bytes OnDevice(const Case& c, const State& state) {
    const std::span<std::byte> memory = device_->memory().first(state.bytes.size());
    stream_->CopyIn(memory, state.bytes);
    stream_->Launch([&](const tiering::StreamContext& stream) {
      const auto* coefficient = reinterpret_cast<const double*>(memory.data() + state.coefficient);
      return adam_->Step(stream, Scalars(c), SlicesIn(c, state, memory.data()),
                         c.coefficient ? coefficient : nullptr);
    });
    Bytes result(state.bytes.size());
    stream_->CopyOut(result, memory);
    const Status status = stream_->Record().Wait();
    EXPECT_TRUE(status.ok()) << status.message();
    return result;
  }

  void ExpectHostsBits(const Case& c) {
    SCOPED_TRACE(c.ToString());
    const State state = MakeState(c);
    const Bytes expected = OnHost(c, state);
    const Bytes found = OnDevice(c, state);
    // An update that is not applied changes at most the weights.
    if (!c.coefficient || !std::isnan(*c.coefficient)) {
      EXPECT_NE(expected, state.bytes);
    }
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_EQ(found[i], expected[i])
          << "byte " << i << " of master at " << state.master << ", m at " << state.m << ", v at "
          << state.v << ", weights at " << state.weight;
  }

  std::unique_ptr<tiering::Device> device_;
  std::unique_ptr<tiering::DeviceStream> stream_;
  std::unique_ptr<DeviceAdam> adam_;
};

std::vector<Case> AllFormats() {
  std::vector<Case> cases;
  for (AdamMode mode : {AdamMode::kAdamW, AdamMode::kAdam}) {
    cases.push_back({.format = StateFormat::kFp32,
                     .gradient = DType::kF32,
                     .weight = std::nullopt,
                     .mode = mode});
    cases.push_back({.format = StateFormat::kFp32,
                     .gradient = DType::kBf16,
                     .weight = DType::kBf16,
                     .mode = mode});
    cases.push_back({.format = StateFormat::kFp32,
                     .gradient = DType::kF16,
                     .weight = DType::kF16,
                     .mode = mode});
    cases.push_back({.format = StateFormat::kSplit,
                     .gradient = DType::kBf16,
                     .weight = DType::kBf16,
                     .mode = mode});
    cases.push_back({.format = StateFormat::kInt8,
                     .gradient = DType::kBf16,
                     .weight = DType::kBf16,
                     .mode = mode});
  }
  return cases;
}

TEST_F(DeviceAdamTest, AnUpdateHasTheBitsOfTheHostsInEveryFormat) {
  for (Case c : AllFormats()) {
    for (uint64_t n : {1, 31, 64, 100, 4096, 20001}) {
      c.num_elements = n;
      ExpectHostsBits(c);
    }
  }
}

TEST_F(DeviceAdamTest, AnUpdateFromAnyElementOnHasTheBitsOfTheHosts) {
  for (Case c : AllFormats()) {
    c.num_elements = 1000;
    for (c.skipped = 1; c.skipped < 4; ++c.skipped) ExpectHostsBits(c);
  }
}

TEST_F(DeviceAdamTest, TheClipCoefficientIsReadOnTheDevice) {
  for (Case c : AllFormats()) {
    c.num_elements = 1000;
    c.coefficient = 0.037;
    ExpectHostsBits(c);
  }
}

TEST_F(DeviceAdamTest, ACoefficientThatIsNotANumberLeavesTheStateAsItWas) {
  for (Case c : AllFormats()) {
    c.num_elements = 1000;
    c.coefficient = std::numeric_limits<double>::quiet_NaN();
    ExpectHostsBits(c);
  }
}

TEST_F(DeviceAdamTest, InfiniteAndNotANumberGradientsGiveTheHostsBits) {
  for (Case c : AllFormats()) {
    if (c.format == StateFormat::kInt8) continue;  // its codes have no infinity
    c.num_elements = 256;
    State state = MakeState(c);
    const float values[] = {INFINITY, -INFINITY};
    for (size_t i = 0; i < 2; ++i) {
      const float x = values[i];
      std::byte* at = state.bytes.data() + state.gradient + 8 * i;
      const uint16_t half = c.gradient == DType::kBf16 ? static_cast<uint16_t>(ToBf16(x))
                                                       : static_cast<uint16_t>(ToHalf(x));
      if (c.gradient == DType::kF32)
        std::memcpy(at, &x, sizeof x);
      else
        std::memcpy(at, &half, sizeof half);
    }
    SCOPED_TRACE(c.ToString());
    // Which NaN comes out is the processor's choice: compared as numbers.
    const Bytes expected = OnHost(c, state), found = OnDevice(c, state);
    const auto number = [&](const Bytes& bytes, size_t at) {
      float x = 0;
      std::memcpy(&x, bytes.data() + state.v + 4 * at, sizeof x);
      return x;
    };
    for (size_t i = 0; i < c.num_elements; ++i) {
      if (std::isnan(number(expected, i))) {
        EXPECT_TRUE(std::isnan(number(found, i))) << i;
      } else {
        EXPECT_EQ(number(found, i), number(expected, i)) << i;
      }
    }
    EXPECT_TRUE(std::isinf(number(found, 0)));
  }
}

}  // namespace
}  // namespace strata::engine
