// Products without a library, on a CUDA device.
#include "engine/kernels/cuda/plain_product.h"

#include "tests/engine/kernels/device_copy.h"
#include "tests/engine/kernels/kernels_rig.h"
#include "tests/engine/kernels/matmul_testing.h"

namespace strata::engine::cuda {
namespace {

// Single rows, columns and terms, and sizes beyond a tile in each direction.
constexpr std::array<Case, 5> kCases = {
    {{1, 1, 1}, {1, 130, 17}, {65, 1, 33}, {64, 64, 64}, {131, 70, 19}}};

class PlainProductTest : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (const std::string missing = MissingForTestKernels(); !missing.empty())
      GTEST_SKIP() << missing;
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  ~PlainProductTest() override {
    if (stream_ == nullptr) return;
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
  }

  void Multiply(const TestMatrix& a, Transpose transpose_a, const TestMatrix& b,
                Transpose transpose_b, const TestMatrix& out, Output output) {
    const DeviceMatrix on_a(a), on_b(b), on_out(out);
    ExpectOk(PlainProduct({.native_stream = stream_}, on_a, transpose_a, on_b, transpose_b, on_out,
                          output));
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    on_out.CopyBack();
  }

  cudaStream_t stream_ = nullptr;
};

TEST_P(PlainProductTest, EqualsAPlainLoopForOddShapesStridesAndBothTransposes) {
  for (const Case& size : kCases) {
    for (const Transpose ta : kTransposes) {
      for (const Transpose tb : kTransposes) {
        const TestMatrix a = Operand(1, GetParam(), ta, size.rows, size.depth);
        const TestMatrix b = Operand(2, GetParam(), tb, size.depth, size.cols);
        for (const DType out_dtype : {DType::kF32, GetParam()}) {
          const TestMatrix out = Poisoned(out_dtype, size.rows, size.cols, 5);
          Multiply(a, ta, b, tb, out, Output::kOverwrite);
          SCOPED_TRACE(testing::Message() << size.rows << "x" << size.cols << "x" << size.depth);
          ExpectWithin(out, engine::Multiply(a, ta, b, tb, size, out_dtype), "product");
        }
      }
    }
  }
}

TEST_P(PlainProductTest, AccumulateAddsToWhatIsThere) {
  const Case size{70, 33, 40};
  const TestMatrix a = Random(1, GetParam(), size.rows, size.depth);
  const TestMatrix b = Random(2, GetParam(), size.depth, size.cols);
  const TestMatrix out = Filled(DType::kF32, size.rows, size.cols, 3);
  Bounded expected = engine::Multiply(a, Transpose::kNo, b, Transpose::kNo, size, DType::kF32);
  for (double& value : expected.values) value += 3;
  for (double& bound : expected.bounds) bound += 3 * kSumError;
  Multiply(a, Transpose::kNo, b, Transpose::kNo, out, Output::kAccumulate);
  ExpectWithin(out, expected, "sum");
}

INSTANTIATE_TEST_SUITE_P(Precision, PlainProductTest,
                         testing::Values(DType::kF32, DType::kBf16, DType::kF16),
                         [](const auto& tested) { return NameOf(tested.param); });

}  // namespace
}  // namespace strata::engine::cuda
