// Plans are made without CUDA: what they say of its kernels is held to those kernels.
#include "engine/kernels/cuda_planning_kernels.h"

#include <gtest/gtest.h>

#include <memory>

#include "tests/engine/kernels/kernels_rig.h"

namespace strata::engine {
namespace {

class CudaPlanningKernelsTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string missing = MissingForTestKernels();
    if (!missing.empty()) GTEST_SKIP() << missing;
    kernels_ = MakeTestKernels();
  }

  const std::unique_ptr<Kernels> planned_ = MakeCudaPlanningKernels();
  std::unique_ptr<Kernels> kernels_;
};

TEST_F(CudaPlanningKernelsTest, TakeAsManyRowsAtOnceAsThoseThatCompute) {
  EXPECT_EQ(planned_->rows_at_once().rows, kernels_->rows_at_once().rows);
  EXPECT_EQ(planned_->rows_at_once().logits_bytes, kernels_->rows_at_once().logits_bytes);
  EXPECT_EQ(planned_->rows_at_once().min_logits_rows, kernels_->rows_at_once().min_logits_rows);
}

TEST_F(CudaPlanningKernelsTest, NeedTheWorkspaceOfThoseThatCompute) {
  EXPECT_EQ(planned_->MatMulWorkspaceBytes(), kernels_->MatMulWorkspaceBytes());
  EXPECT_EQ(planned_->TwoPassWorkspaceBytes(), kernels_->TwoPassWorkspaceBytes());
  for (const size_t head_dim : {3u, 64u, 80u, 128u, 256u}) {
    for (const size_t seq_len : {1u, 77u, 2048u}) {
      for (const size_t num_kv_heads : {1u, 8u}) {
        const AttentionShape shape{.batch = 3,
                                   .seq_len = seq_len,
                                   .num_heads = 8,
                                   .num_kv_heads = num_kv_heads,
                                   .head_dim = head_dim};
        for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
          EXPECT_EQ(planned_->AttentionWorkspaceBytes(shape, dtype),
                    kernels_->AttentionWorkspaceBytes(shape, dtype))
              << "heads of " << head_dim << ", " << seq_len << " tokens, " << DTypeName(dtype);
        }
      }
    }
  }
}

TEST_F(CudaPlanningKernelsTest, ComputeNothing) {
  EXPECT_EQ(planned_->Zero({}, {}).code(), Code::kUnavailable);
}

}  // namespace
}  // namespace strata::engine
