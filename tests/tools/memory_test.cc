// Budgets are hard: what the kernel says a run took, not what the run says of itself.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <vector>

#include "aio/base/units.h"
#include "tests/tools/program.h"

namespace strata::tools {
namespace {

class MemoryTest : public testing::Test {
 protected:
  MemoryTest() {
    std::string pattern = std::string(STRATA_BINARY_DIR) + "/tests/memory-XXXXXX";
    directory_ = mkdtemp(pattern.data());
  }
  ~MemoryTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  // Of one step.
  uint64_t PeakRssBytes(const std::vector<std::string>& sets) {
    std::vector<std::string> arguments = {"train", WriteTinyConfig(directory_, 1), "--overwrite"};
    for (const std::string& set : sets) {
      arguments.push_back("--set");
      arguments.push_back(set);
    }
    Outcome outcome = RunStrata(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome.peak_rss_bytes;
  }
  std::string directory_;
};

// A state of 95 MiB and 12 MiB of activations fill the larger budgets; the tiny model alone needs
// 3 MiB.
TEST_F(MemoryTest, ARunTakesItsBudgetsAndLittleBeside) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers take memory of their own";
#endif
  constexpr uint64_t kBudgets = 48_MiB + 64_MiB;
  uint64_t tiny = PeakRssBytes({});
  uint64_t large = PeakRssBytes({"memory.device=48MiB", "memory.host=64MiB",
                                 "model.hidden_size=512", "model.intermediate_size=1408",
                                 "data.seq_len=256", "train.train_batch_size=8"});
  EXPECT_LE(large, kBudgets + 256_MiB);
  // Most of the budgets is really used, or the line above proves nothing...
  EXPECT_GE(large, tiny + kBudgets * 3 / 4);
  // ...and fifty times the parameters take nothing worth mentioning outside of them.
  EXPECT_LE(large, tiny + kBudgets + 32_MiB);
}

}  // namespace
}  // namespace strata::tools
