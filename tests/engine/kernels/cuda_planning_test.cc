// What kernels on CUDA say to those who plan with them, for which no GPU is needed.
#include <gmock/gmock.h>

#include "engine/kernels/cuda_kernels.h"
#include "tests/or_die.h"

namespace strata::engine {
namespace {

using testing::HasSubstr;

std::string ToldOf(const Kernels& kernels, size_t head_dim, DType dtype) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(kernels.AttentionWorkspaceBytes({2, 100, 4, 2, head_dim}, dtype), 2u * 100 * 4 * 4);
  return testing::internal::GetCapturedStderr();
}

TEST(CudaPlanningTest, HeadsThatTensorCoresDoNotTakeAreToldOfOnce) {
  const std::unique_ptr<Kernels> kernels = OrDie(MakeCudaKernels(std::nullopt));
  EXPECT_EQ(ToldOf(*kernels, 128, DType::kBf16), "");
  EXPECT_EQ(ToldOf(*kernels, 256, DType::kF32), "");
  EXPECT_THAT(ToldOf(*kernels, 256, DType::kBf16), HasSubstr("heads of 256 elements"));
  EXPECT_EQ(ToldOf(*kernels, 100, DType::kF16), "");
}

}  // namespace
}  // namespace strata::engine
