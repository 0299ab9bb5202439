// The loss scale against DeepSpeed's own (tests/golden/make_loss_scale.py), step by step.
#include "engine/optimizer/loss_scaler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

namespace strata::engine {
namespace {

nlohmann::json GoldenCases() {
  std::ifstream file(STRATA_SOURCE_DIR "/tests/golden/loss_scale.json");
  return nlohmann::json::parse(file).at("cases");
}

LossScaleOptions OptionsOf(const nlohmann::json& golden) {
  return {.initial_power = golden["initial_scale_power"],
          .window = golden["loss_scale_window"],
          .hysteresis = golden["hysteresis"],
          .consecutive_hysteresis = golden["consecutive_hysteresis"],
          .min_scale = golden["min_loss_scale"]};
}

// A scale of 0 in the file: DeepSpeed gave up there, and so do we.
TEST(LossScalerTest, FollowsDeepSpeedThroughRandomOverflows) {
  nlohmann::json cases = GoldenCases();
  ASSERT_EQ(cases.size(), 8u);
  for (const nlohmann::json& golden : cases) {
    LossScaler scaler(OptionsOf(golden));
    for (size_t i = 0; i < golden["scales"].size(); ++i) {
      Status status = scaler.Update(golden["overflows"][i] == 1);
      double expected = golden["scales"][i];
      ASSERT_EQ(status.ok(), expected > 0) << "step " << i << ": " << status.ToString();
      if (!status.ok()) break;
      ASSERT_EQ(scaler.scale(), expected) << "step " << i;
    }
  }
}

TEST(LossScalerTest, GoesOnFromASavedStateAsIfNothingHadHappened) {
  nlohmann::json golden = GoldenCases()[3];
  LossScaler whole(OptionsOf(golden)), first(OptionsOf(golden));
  size_t steps = golden["scales"].size() - 1;  // the last one gives up
  for (size_t i = 0; i < steps; ++i) {
    LossScaler second(OptionsOf(golden));
    second.Restore(first.state());
    bool overflowed = golden["overflows"][i] == 1;
    ASSERT_TRUE(whole.Update(overflowed).ok());
    ASSERT_TRUE(second.Update(overflowed).ok());
    first = second;
    ASSERT_EQ(first.state(), whole.state());
  }
}

TEST(LossScalerTest, AFixedScaleStaysAndSkipsSteps) {
  LossScaler scaler({.fixed_scale = 128, .window = 1});
  for (bool overflowed : {false, true, true, false}) {
    EXPECT_TRUE(scaler.Update(overflowed).ok());
    EXPECT_EQ(scaler.scale(), 128);
  }
}

TEST(LossScalerTest, AnOverflowAtTheLeastScaleSaysWhatElseHelps) {
  LossScaler scaler({.initial_power = 0, .hysteresis = 1});
  EXPECT_THAT(std::string(scaler.Update(true).message()), testing::HasSubstr("bf16"));
}

}  // namespace
}  // namespace strata::engine
